"""Collections of uncropped photos as their makers distribute them: each module lists what one holds (`list_photos`)."""
