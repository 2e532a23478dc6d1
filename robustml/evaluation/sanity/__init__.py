"""What raises flags: looks at the model, the predictions, the attacks and what they leave behind."""
