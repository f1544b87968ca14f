"""The web app in which people look, vote and compare."""
