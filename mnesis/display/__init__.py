"""What people look at: plain data as text, HTML and console renderables. Knows no models."""
