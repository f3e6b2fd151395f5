"""What the renderers of animals share: views, surfaces with fur or plumage, and the drawing of a picture."""
