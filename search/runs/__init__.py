"""One run: what it scores, keeps, resumes, concludes."""
