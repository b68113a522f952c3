"""Training: settings, data, the step, guards and `ttame.train`."""
