"""What can be named: kinds, components, plugins and the project that brings them."""
