"""Applications, as the server loads them."""
