"""What writes measured figures into documents, so that nobody types them."""
