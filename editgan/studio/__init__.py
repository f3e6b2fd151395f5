"""A page in the browser to paint on masks and move sliders, while the picture follows."""
