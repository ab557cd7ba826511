"""All code that runs in the processes of programs; the rest of the house never imports it."""
