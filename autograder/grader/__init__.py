"""The instructor's half: submissions in; verdicts, feedback, a class report and exports out."""
