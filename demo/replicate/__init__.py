"""`make replicate`: the paper's recipe beside ours."""
