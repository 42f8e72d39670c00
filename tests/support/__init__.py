"""What several rooms of tests share: people at work, offices, certificates, attackers, faulty lines."""
