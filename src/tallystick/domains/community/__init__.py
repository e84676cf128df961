"""Communities: members and their roles, who trusts whom, who vouches for whom with money, and what follows."""
