"""One click buys, and there is half an hour to change one's mind."""
