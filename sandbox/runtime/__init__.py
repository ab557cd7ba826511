"""Run operators' programs behind walls: `host` launches and watches, `guest` is what runs beside untrusted code."""
