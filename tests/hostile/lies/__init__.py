"""The lies, by what they are about; the table says what comes of each."""
