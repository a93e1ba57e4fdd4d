"""The cases, one file an area. Each is a function on a `Bench`; it fails by raising."""
