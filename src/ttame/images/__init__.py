"""Photos: reading them safely, listing, preprocessing, data sets."""
