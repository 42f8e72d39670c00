"""What travels between coordinator and institutions: messages, session configuration, parameters."""
