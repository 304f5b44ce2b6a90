"""Pages that fetch nothing: the inspector of a server, and the reports of the jobs and the demo."""
