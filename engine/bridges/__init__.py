"""The bus behind the trainers that people already have; each bridge is imported when asked for."""
