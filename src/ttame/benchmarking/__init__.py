"""Methods x metrics x images."""
