"""mPLUG-Owl2, the model under One-Align, DeQA-Score and ROC4MLLM."""
