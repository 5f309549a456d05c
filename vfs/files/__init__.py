"""Names, attributes and bytes as programs see them. All of it is owned by the event loop's thread; there are no locks."""
