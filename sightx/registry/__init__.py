"""What specs can name: kinds, components, plugins, and the project that provides them."""
