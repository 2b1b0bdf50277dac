"""Tracking in a video, a folder of images or a camera's picture, with the result drawn into it."""
