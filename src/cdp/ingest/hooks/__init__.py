"""What shops send by themselves: signatures checked, payloads turned into what is kept. Pure."""
