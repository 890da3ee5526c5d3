"""An engine seen over its socket."""
