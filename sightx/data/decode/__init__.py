"""The one decoder of images."""
