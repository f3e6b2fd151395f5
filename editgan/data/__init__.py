"""The rendered heads: how they are made, split, kept in archives and read."""
