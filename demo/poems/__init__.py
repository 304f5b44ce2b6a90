"""The demo with a lexicon for a judge: comments on poems that the user likes or dislikes."""
