"""The stage `collect`: a teacher's captions for the selected pictures, paid for once."""
