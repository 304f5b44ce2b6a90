"""A policy that is trained to fool the probe: do the labels notice, and does a refresh help?"""
