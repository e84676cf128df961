"""Names of people who do not exist, from many places."""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


FEMALE = _words(
    "Adaeze Amara Amina Aoife Asha Beatriz Camila Chiara Dalia Elif Esther Fatou Freya Grace Hana Imani Ines Ingrid "
    "Jasmin Katarina Leila Lucia Mei Mirembe Nadia Ngozi Olena Paloma Priya Rosa Saanvi Sofia Wanjiru Yuki Zola"
)
MALE = _words(
    "Abebe Alejandro Anders Arjun Bashir Chidi Dmitri Diego Emeka Farid Finn Giorgi Hassan Henrik Ikenna Ivan Jomo "
    "Kenji Kofi Kwame Lars Liam Mateo Moses Nikolai Obinna Omar Pavel Rahul Samuel Sipho Tariq Tomas Viktor Wei Yusuf"
)
FAMILY = _words(
    "Abara Adeyemi Agarwal Banda Bianchi Castillo Chukwu Dlamini Eriksen Falk Fernandes Garcia Haddad Ibrahim Ito "
    "Jansen Kamau Khoury Kowalski Lindqvist Mbeki Mensah Moreau Nakamura Njoroge Novak Nwosu Okafor Oliveira Osei "
    "Pereira Petrov Quispe Rahman Rossi Sato Sharma Silva Tembo Torres Ueda Vargas Wambui Weber Yilmaz Zhang"
)
CITIES = (
    ("Lagos", "NG"),
    ("Nairobi", "KE"),
    ("Accra", "GH"),
    ("Bristol", "GB"),
    ("Portland", "US"),
    ("Lisbon", "PT"),
    ("Pune", "IN"),
    ("Osaka", "JP"),
)
