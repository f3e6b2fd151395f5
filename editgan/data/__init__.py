"""Pictures: the renderer, other sources, importers of photos, splits and archives."""
