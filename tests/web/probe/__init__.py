"""A site that tries, from within the process that faces browsers, all that it must not be able to do."""
