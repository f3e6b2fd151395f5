"""What all renderers share: triangle meshes, a z-buffer, colours and smooth functions."""
