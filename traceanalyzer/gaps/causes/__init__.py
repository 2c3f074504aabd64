"""Why pipeline steps are longer than their ideal, who causes it, and what a remedy is worth."""
