"""Collections of uncropped photos as distributed: each module lists the files of one collection (`list_photos`)."""
