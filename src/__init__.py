"""BERT written by hand: pre-training, fine-tuning, and classification of sentences.

Imports point downwards: entry points (train, pretrain, inference, explain, report, export, demo); training and web;
evaluation and interop; data and model; utils. Each room has a README.
"""
