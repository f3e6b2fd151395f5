"""Where pictures come from when they are not rendered: each module lists what its layout holds (`list_pictures`)."""
