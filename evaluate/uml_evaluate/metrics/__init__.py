"""What a classifier is judged by beside accuracy, from the scores that a run keeps of its test rows."""
