"""The demo's headline: questions whose answer stands in the prompt, and a user who is wrong."""
