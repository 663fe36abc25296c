"""The served models and their health."""
