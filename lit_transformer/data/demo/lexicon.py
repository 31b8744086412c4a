"""Nouns, adjectives and function words of the demo corpus.

In a given context, an English word has one German counterpart, so German is a function of English: a teacher is always
a `Lehrerin`, and a doctor is always an `Arzt`.
"""

from lit_transformer.data.demo.words import Adjective, Determiner, Modal, Noun, Preposition, Time

_ADULT = "person human adult animate"
_KID = "person human kid animate"

NOUNS = (
    Noun("man", "Mann", "m", "Männer", "he", f"{_ADULT} age foreign", english_plural="men"),
    Noun("woman", "Frau", "f", "Frauen", "she", f"{_ADULT} age foreign", english_plural="women"),
    Noun("doctor", "Arzt", "m", "Ärzte", "he", f"{_ADULT} age"),
    Noun("teacher", "Lehrerin", "f", "Lehrerinnen", "she", f"{_ADULT} age"),
    Noun("farmer", "Bauer", "m", "Bauern", "he", f"{_ADULT} age foreign", german_oblique="Bauern"),
    Noun("student", "Student", "m", "Studenten", "he", f"{_ADULT} age", german_oblique="Studenten"),
    Noun("painter", "Maler", "m", "Maler", "he", f"{_ADULT} age foreign"),
    Noun("singer", "Sängerin", "f", "Sängerinnen", "she", f"{_ADULT} age foreign"),
    Noun("neighbor", "Nachbarin", "f", "Nachbarinnen", "she", f"{_ADULT} age"),
    Noun("friend", "Freund", "m", "Freunde", "he", _ADULT),
    Noun("brother", "Bruder", "m", "Brüder", "he", f"{_ADULT} kin"),
    Noun("sister", "Schwester", "f", "Schwestern", "she", f"{_ADULT} kin"),
    Noun("grandfather", "Großvater", "m", "Großväter", "he", f"{_ADULT} kin"),
    Noun("grandmother", "Großmutter", "f", "Großmütter", "she", f"{_ADULT} kin"),
    Noun("boy", "Junge", "m", "Jungen", "he", f"{_KID} foreign", german_oblique="Jungen"),
    Noun("girl", "Mädchen", "n", "Mädchen", "she", f"{_KID} foreign"),
    Noun("child", "Kind", "n", "Kinder", "it", _KID, english_plural="children"),
    Noun("baby", "Baby", "n", "Babys", "it", "person baby animate", english_plural="babies"),
    Noun("Paul", "Paul", "m", "", "he", f"{_ADULT} name"),
    Noun("Peter", "Peter", "m", "", "he", f"{_ADULT} name"),
    Noun("Anna", "Anna", "f", "", "she", f"{_ADULT} name"),
    Noun("Maria", "Maria", "f", "", "she", f"{_ADULT} name"),
    Noun("dog", "Hund", "m", "Hunde", "it", "animal animate pet dog beast hunter"),
    Noun("cat", "Katze", "f", "Katzen", "it", "animal animate pet hunter"),
    Noun("rabbit", "Kaninchen", "n", "Kaninchen", "it", "animal animate pet grazer"),
    Noun("bird", "Vogel", "m", "Vögel", "it", "animal animate grazer wild"),
    Noun("mouse", "Maus", "f", "Mäuse", "it", "animal animate foreign grazer wild", english_plural="mice"),
    Noun("horse", "Pferd", "n", "Pferde", "it", "animal animate beast grazer wild"),
    Noun("cow", "Kuh", "f", "Kühe", "it", "animal animate beast grazer wild"),
    Noun("bear", "Bär", "m", "Bären", "it", "animal animate beast foreign hunter grazer wild", german_oblique="Bären"),
    Noun("apple", "Apfel", "m", "Äpfel", "it", "food fruit sweet"),
    Noun("banana", "Banane", "f", "Bananen", "it", "food fruit sweet"),
    Noun("cake", "Kuchen", "m", "Kuchen", "it", "food baked sweet"),
    Noun("egg", "Ei", "n", "Eier", "it", "food cooked"),
    Noun("potato", "Kartoffel", "f", "Kartoffeln", "it", "food cooked", english_plural="potatoes"),
    Noun("soup", "Suppe", "f", "", "it", "food cooked hot"),
    Noun("rice", "Reis", "m", "", "it", "food cooked"),
    Noun("bread", "Brot", "n", "", "it", "food baked fodder"),
    Noun("cheese", "Käse", "m", "", "it", "food meat"),
    Noun("meat", "Fleisch", "n", "", "it", "food meat"),
    Noun("fish", "Fisch", "m", "", "it", "food meat"),
    Noun("water", "Wasser", "n", "", "it", "drink plain clear"),
    Noun("milk", "Milch", "f", "", "it", "drink plain"),
    Noun("coffee", "Kaffee", "m", "", "it", "drink hot"),
    Noun("tea", "Tee", "m", "", "it", "drink hot"),
    Noun("juice", "Saft", "m", "", "it", "drink sweet"),
    Noun("book", "Buch", "n", "Bücher", "it", "reading writable"),
    Noun("letter", "Brief", "m", "Briefe", "it", "reading writable post"),
    Noun("story", "Geschichte", "f", "Geschichten", "it", "reading writable", english_plural="stories"),
    Noun("newspaper", "Zeitung", "f", "Zeitungen", "it", "reading"),
    Noun("car", "Auto", "n", "Autos", "it", "vehicle"),
    Noun("bicycle", "Fahrrad", "n", "Fahrräder", "it", "vehicle"),
    Noun("boat", "Boot", "n", "Boote", "it", "vehicle"),
    Noun("bus", "Bus", "m", "Busse", "it", "transport foreign", english_plural="buses"),
    Noun("train", "Zug", "m", "Züge", "it", "transport foreign"),
    Noun("box", "Kiste", "f", "Kisten", "it", "container openable", english_plural="boxes"),
    Noun("suitcase", "Koffer", "m", "Koffer", "it", "container openable"),
    Noun("bag", "Tasche", "f", "Taschen", "it", "container openable"),
    Noun("door", "Tür", "f", "Türen", "it", "opening openable"),
    Noun("window", "Fenster", "n", "Fenster", "it", "opening openable"),
    Noun("coat", "Mantel", "m", "Mäntel", "it", "clothing"),
    Noun("dress", "Kleid", "n", "Kleider", "it", "clothing", english_plural="dresses"),
    Noun("shirt", "Hemd", "n", "Hemden", "it", "clothing"),
    Noun("hat", "Hut", "m", "Hüte", "it", "clothing"),
    Noun("jacket", "Jacke", "f", "Jacken", "it", "clothing"),
    Noun("lamp", "Lampe", "f", "Lampen", "it", "device"),
    Noun("radio", "Radio", "n", "Radios", "it", "device"),
    Noun("computer", "Computer", "m", "Computer", "it", "device"),
    Noun("television", "Fernseher", "m", "Fernseher", "it", "device"),
    Noun("table", "Tisch", "m", "Tische", "it", "furniture cover"),
    Noun("chair", "Stuhl", "m", "Stühle", "it", "furniture"),
    Noun("bed", "Bett", "n", "Betten", "it", "furniture surface"),
    Noun("flower", "Blume", "f", "Blumen", "it", "gift"),
    Noun("picture", "Bild", "n", "Bilder", "it", "gift art post"),
    Noun("ring", "Ring", "m", "Ringe", "it", "gift"),
    Noun("ball", "Ball", "m", "Bälle", "it", "toy"),
    Noun("doll", "Puppe", "f", "Puppen", "it", "toy"),
    Noun("key", "Schlüssel", "m", "Schlüssel", "it", "tool"),
    Noun("knife", "Messer", "n", "Messer", "it", "tool", english_plural="knives"),
    Noun("tree", "Baum", "m", "Bäume", "it", "plant cover landmark"),
    Noun("house", "Haus", "n", "Häuser", "it", "place inside home landmark"),
    Noun("school", "Schule", "f", "Schulen", "it", "place inside landmark"),
    Noun("museum", "Museum", "n", "Museen", "it", "place inside landmark foreign"),
    Noun("kitchen", "Küche", "f", "Küchen", "it", "place inside home indoors"),
    Noun("room", "Zimmer", "n", "Zimmer", "it", "place inside home indoors"),
    Noun("garden", "Garten", "m", "Gärten", "it", "place inside nature"),
    Noun("park", "Park", "m", "Parks", "it", "place inside nature foreign"),
    Noun("forest", "Wald", "m", "Wälder", "it", "place inside nature foreign"),
    Noun("city", "Stadt", "f", "Städte", "it", "place inside foreign", english_plural="cities"),
    Noun("village", "Dorf", "n", "Dörfer", "it", "place inside"),
    Noun("lake", "See", "m", "Seen", "it", "place water foreign"),
    Noun("bridge", "Brücke", "f", "Brücken", "it", "place high surface cover foreign"),
    Noun("tower", "Turm", "m", "Türme", "it", "place high landmark foreign"),
)

ADJECTIVES = (
    Adjective("tired", "müde", "animate", german_stem="müd"),
    Adjective("happy", "glücklich", "animate"),
    Adjective("sad", "traurig", "animate"),
    Adjective("hungry", "hungrig", "animate"),
    Adjective("thirsty", "durstig", "animate"),
    Adjective("sick", "krank", "animate"),
    Adjective("angry", "wütend", "animate"),
    Adjective("friendly", "freundlich", "human pet"),
    Adjective("tall", "groß", "age"),
    Adjective("strong", "stark", "age beast"),
    Adjective("young", "jung", "age animal"),
    Adjective("old", "alt", "age animal vehicle reading clothing furniture device gift home high opening"),
    Adjective("new", "neu", "vehicle reading clothing furniture device container tool toy"),
    Adjective("small", "klein", "animal kid baby vehicle container furniture tool toy place plant fruit"),
    Adjective("big", "groß", "animal vehicle container furniture opening place plant fruit"),
    Adjective("black", "schwarz", "animal clothing vehicle container"),
    Adjective("white", "weiß", "animal clothing furniture opening"),
    Adjective("brown", "braun", "beast clothing furniture container"),
    Adjective("red", "rot", "clothing vehicle container toy"),
    Adjective("green", "grün", "clothing vehicle opening"),
    Adjective("blue", "blau", "clothing vehicle toy container"),
    Adjective("expensive", "teuer", "vehicle clothing device furniture gift", german_stem="teur"),
    Adjective("cheap", "billig", "vehicle clothing device furniture"),
    Adjective("dirty", "schmutzig", "vehicle clothing container opening indoors"),
    Adjective("heavy", "schwer", "container"),
    Adjective("beautiful", "schön", "gift nature clothing high"),
    Adjective("fresh", "frisch", "fruit baked meat"),
    Adjective("hot", "heiß", "hot"),
    Adjective("cold", "kalt", "drink"),
    Adjective("sweet", "süß", "sweet"),
    Adjective("good", "gut", "food drink reading"),
    Adjective("interesting", "interessant", "reading"),
    Adjective("long", "lang", "reading"),
    Adjective("dark", "dunkel", "indoors nature", german_stem="dunkl"),
    Adjective("quiet", "ruhig", "place"),
    Adjective("high", "hoch", "high", german_stem="hoh"),
)

THE = Determiner("the", "the", "", "article", "weak", "both")
A = Determiner("a", "", "ein", "ein", "mixed", "singular")
BARE = Determiner("", "", "", "none", "strong", "both")
NO = Determiner("no", "", "kein", "ein", "mixed", "singular")
"""A determiner of subjects. Before objects, German uses it to negate `a` and `BARE`."""
MY = Determiner("my", "my", "mein", "ein", "mixed", "both")
OUR = Determiner("our", "our", "unser", "ein", "mixed", "both")
THIS = Determiner("this", "these", "dies", "der", "weak", "both")
EVERY = Determiner("every", "", "jed", "der", "weak", "singular")
MANY = Determiner("", "many", "viel", "der", "strong", "plural")
TWO = Determiner("", "two", "zwei", "none", "strong", "plural")
THREE = Determiner("", "three", "drei", "none", "strong", "plural")
FIVE = Determiner("", "five", "fünf", "none", "strong", "plural")

TIMES = (
    Time("every day", "jeden Tag", "habit"),
    Time("in the morning", "am Morgen", "habit"),
    Time("in the evening", "am Abend", "habit"),
    Time("on Sunday", "am Sonntag", "habit"),
    Time("often", "oft", "habit", is_mid=True),
    Time("always", "immer", "habit", is_mid=True),
    Time("rarely", "selten", "habit", is_mid=True),
    Time("today", "heute", "today"),
    Time("now", "jetzt", "now"),
    Time("yesterday", "gestern", "past"),
    Time("this morning", "heute Morgen", "past"),
    Time("last week", "letzte Woche", "past"),
    Time("tomorrow", "morgen", "future"),
    Time("soon", "bald", "future"),
    Time("next week", "nächste Woche", "future"),
)

PREPOSITIONS = (
    Preposition("in", "in", "dative", "location", "inside"),
    Preposition("on", "auf", "dative", "location", "surface"),
    Preposition("under", "unter", "dative", "location", "cover"),
    Preposition("behind", "hinter", "dative", "location", "landmark"),
    Preposition("in front of", "vor", "dative", "location", "landmark"),
    Preposition("next to", "neben", "dative", "location", "landmark water"),
    Preposition("into", "in", "accusative", "direction", "inside"),
    Preposition("out of", "aus", "dative", "direction", "inside"),
    Preposition("to", "zu", "dative", "direction", "landmark water high adult"),
    Preposition("in", "in", "dative", "water", "water"),
)

MODALS = (
    Modal("can", "can", ("kann", "kann", "können"), negated="cannot"),
    Modal("want to", "wants to", ("will", "will", "wollen"), needs_do=True),
    Modal("must", "must", ("muss", "muss", "müssen")),
    Modal("may", "may", ("darf", "darf", "dürfen"), negated="may not"),
    Modal("should", "should", ("sollte", "sollte", "sollten"), negated="should not"),
    Modal("will", "will", ("werde", "wird", "werden"), negated="will not"),
)
