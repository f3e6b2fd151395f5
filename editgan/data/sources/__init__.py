"""Sources of pictures that are not rendered: each module lists the files of one layout (`list_pictures`)."""
