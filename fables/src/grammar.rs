//! The stories, and the words they are made of.
//!
//! Four stories, one function each: a thing is stolen, a promise is called in, a contest is held, gifts are carried. What a
//! teller chooses early decides what comes later: a trait how its owner acts, a deed the moral.
//! The notation is explained in [`crate`]; the numbers are weights.

use super::teller::Tale;

/// Words of equal weight. No word begins with another of its list.
pub struct List {
    name: &'static str,
    pub words: &'static [&'static str],
    /// Whether the two halves differ in kind: her names, his names.
    halves: bool,
}

impl List {
    pub fn in_first_half(&self, index: usize) -> bool {
        index < self.words.len() / 2
    }

    /// Whether one word can stand for another in any sentence.
    pub fn akin(&self, a: usize, b: usize) -> bool {
        a != b && (!self.halves || self.in_first_half(a) == self.in_first_half(b))
    }
}

const fn words(name: &'static str, words: &'static [&'static str]) -> List {
    List { name, words, halves: false }
}

const fn halves(name: &'static str, words: &'static [&'static str]) -> List {
    List { name, words, halves: true }
}

static LISTS: &[List] = &[
    // Her names, then his.
    halves(
        "name",
        &[
            "Ada", "Bess", "Cleo", "Dora", "Elsa", "Fern", "Greta", "Hazel", "Ida", "Jill", "Kate",
            "Lily", "Mia", "Nell", "Olga", "Pia", "Rosa", "Tess", "Una", "Vera", "Abel", "Bram",
            "Carl", "Dov", "Emil", "Finn", "Gus", "Hugo", "Ivan", "Jack", "Kit", "Leo", "Max",
            "Ned", "Otto", "Paul", "Quin", "Rolf", "Sam", "Tom",
        ],
    ),
    // Good traits, then bad ones.
    halves(
        "trait",
        &[
            "kind", "honest", "gentle", "loyal", "patient", "wise", "sly", "greedy", "proud",
            "lazy", "vain", "rude",
        ],
    ),
    words(
        "kind",
        &[
            "fox", "hen", "crow", "goat", "mole", "otter", "hare", "owl", "toad", "mouse", "wolf",
            "bear", "duck", "cat", "dog", "pig", "lamb", "heron", "badger", "goose",
        ],
    ),
    // Looks of metal, then of cloth.
    halves(
        "look",
        &[
            "tin", "brass", "iron", "gold", "silver", "copper", "red", "blue", "green", "grey",
            "white", "yellow",
        ],
    ),
    words(
        "metalware",
        &[
            "bell", "key", "cup", "ring", "lamp", "spoon", "pot", "coin", "comb", "pin", "horn",
            "box",
        ],
    ),
    words(
        "clothes",
        &[
            "scarf", "hat", "coat", "shawl", "cap", "rug", "belt", "glove", "sock", "bag", "cloak",
            "vest",
        ],
    ),
    words("prep", &["by", "near", "behind", "beyond", "below"]),
    words(
        "spot",
        &[
            "mill", "oak", "well", "barn", "pond", "gate", "bridge", "elm", "wall", "hedge",
            "ford", "tower", "rock", "pine", "church", "garden", "shed", "inn", "fort", "lake",
        ],
    ),
    words(
        "food",
        &[
            "figs", "plums", "nuts", "pears", "eggs", "buns", "beans", "cakes", "grapes", "apples",
            "leeks", "pies", "dates", "limes",
        ],
    ),
    words(
        "number",
        &["two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "twelve"],
    ),
    words("kin", &["mother", "father", "aunt", "uncle", "sister", "brother", "cousin", "niece"]),
    words(
        "weather",
        &["cold", "warm", "wet", "foggy", "windy", "bright", "mild", "dark", "quiet", "grey"],
    ),
    words("hour", &["morning", "day", "evening", "night", "noon"]),
    words("season", &["spring", "summer", "autumn", "winter"]),
    words("span", &["days", "weeks", "months", "nights"]),
    words(
        "when",
        &[
            "at new moon",
            "at full moon",
            "at the frost",
            "after harvest",
            "on market day",
            "at the fair",
            "in April",
            "at the thaw",
            "in May",
            "in July",
            "in June",
            "at midsummer",
            "in March",
            "in October",
        ],
    ),
    words("depth", &["deep", "narrow", "muddy", "cold", "dark", "slippery"]),
    words("pit", &["ditch", "bog", "pit", "trap", "hole", "cellar", "drain", "gully"]),
    words("tool", &["rope", "branch", "ladder", "pole", "plank", "vine", "hook", "chain"]),
    words(
        "skill",
        &[
            "singer", "dancer", "cook", "runner", "swimmer", "baker", "climber", "painter",
            "juggler", "poet",
        ],
    ),
    words("house", &["hut", "cave", "den", "house", "burrow", "cottage", "stable", "loft"]),
    words("size", &["small", "tall", "round", "crooked", "tidy", "damp", "snug", "bare"]),
    words("part", &["roof", "door", "fence", "stove", "chair", "chimney", "boots", "clock"]),
    words("praise", &["fine", "lovely", "rare", "pretty", "strange", "splendid"]),
    words("gale", &["strong", "sudden", "wild", "bitter", "west", "north", "east"]),
    words("bag", &["bag", "sack", "basket", "jar", "chest", "bucket", "cart"]),
    words(
        "crowd",
        &["guests", "cousins", "strangers", "neighbours", "children", "friends", "sailors"],
    ),
    words(
        "gain",
        &["a friend", "a feast", "a home", "good sleep", "peace", "trust", "honour", "luck"],
    ),
    words("weak", &["ill", "lost", "poor", "old", "tired", "sad", "lonely", "freezing", "hungry"]),
    words("stared", &["stared", "blinked", "grinned", "whistled", "nodded", "sighed"]),
    words("wept", &["wept", "sighed", "howled", "moaned", "shivered", "blushed"]),
    words("rejoiced", &["danced", "sang", "smiled", "clapped", "bowed", "beamed", "laughed"]),
    words(
        "laughed",
        &["laughed", "walked on", "went home", "only smiled", "looked away", "shut the door"],
    ),
    words("worked", &["mended", "painted", "cleaned", "fixed", "polished", "measured"]),
    words("knocked", &["knocked", "rapped", "scratched", "tapped", "rang"]),
    words(
        "taste",
        &[
            "big", "small", "good", "fresh", "stale", "cheap", "sweet", "fine", "cold", "plain",
            "soft", "odd",
        ],
    ),
    words(
        "build",
        &["small", "tall", "round", "thin", "young", "plump", "tiny", "shy", "lame", "tame"],
    ),
    words("lived", &["lived", "worked", "hid", "dwelt", "stayed"]),
    words("by", &["by", "past", "up", "along", "over", "in"]),
    words("fell", &["fell", "slid", "slipped", "rolled", "tumbled"]),
    words("stole", &["stole", "took", "grabbed", "seized", "pocketed"]),
    words("gave", &["gave", "handed", "brought", "passed"]),
    words("ate", &["ate", "cooked", "counted", "sold", "washed", "shared"]),
    words("eating", &["eating", "cooking", "counting", "washing", "selling"]),
    words("found", &["found", "caught", "saw", "met"]),
    words("slept", &["slept", "lay", "sat", "hummed", "dozed", "rested"]),
    words("trained", &["trained", "practised", "worked", "studied", "tried"]),
    words("gathered", &["gathered", "met", "stood", "began"]),
    words("pulled", &["pulled", "dug", "tugged", "heaved"]),
    words(
        "softly",
        &["softly", "loudly", "sadly", "at once", "again", "gently", "coldly", "at last", "slowly"],
    ),
    words(
        "gladly",
        &["softly", "loudly", "at once", "at last", "again", "for joy", "all day", "all night"],
    ),
    words(
        "sadly",
        &["softly", "loudly", "at once", "at last", "again", "bitterly", "all day", "all night"],
    ),
    words("help", &["help", "save", "free", "lift"]),
    words("plea", &["give", "sell", "lend", "spare", "bring", "hand"]),
    words(
        "consent",
        &[
            "take it",
            "here it is",
            "of course",
            "with joy",
            "with thanks",
            "it is yours",
            "my word is my word",
        ],
    ),
    words(
        "refusal",
        &["not now", "never", "I need it", "not today", "go away", "find your own", "ask another"],
    ),
    words("said", &["said", "called", "shouted", "whispered", "asked"]),
];

/// How each of the kinds moves and speaks, in their order.
const WAYS: [(&str, &str); 20] = [
    ("ran", "barked"),
    ("flew", "clucked"),
    ("flew", "croaked"),
    ("trotted", "bleated"),
    ("crept", "squeaked"),
    ("ran", "whistled"),
    ("hopped", "squeaked"),
    ("flew", "hooted"),
    ("hopped", "croaked"),
    ("crept", "squeaked"),
    ("ran", "growled"),
    ("walked", "growled"),
    ("flew", "quacked"),
    ("crept", "purred"),
    ("ran", "barked"),
    ("trotted", "grunted"),
    ("trotted", "bleated"),
    ("flew", "croaked"),
    ("walked", "grunted"),
    ("flew", "quacked"),
];

/// The list of this name, in small letters or with a capital. A `thing` is of metal or of cloth, as its look says.
pub fn list(name: &str, metal: bool) -> &'static List {
    let name = match name {
        "thing" if metal => "metalware",
        "thing" => "clothes",
        _ => name,
    };
    let list = LISTS.iter().find(|list| list.name.eq_ignore_ascii_case(name));
    list.unwrap_or_else(|| panic!("the grammar has no list of the name {name}"))
}

/// What follows from somebody's name (hers or his) and kind (its index).
pub fn derived(property: &str, hers: bool, kind: Option<usize>) -> Option<&'static str> {
    match property {
        "he" => Some(if hers { "she" } else { "he" }),
        "his" => Some(if hers { "her" } else { "his" }),
        "him" => Some(if hers { "her" } else { "him" }),
        "went" => kind.map(|kind| WAYS[kind].0),
        "voice" => kind.map(|kind| WAYS[kind].1),
        _ => None,
    }
}

type Ways = &'static [(u32, &'static str)];

/// By name or by kind.
pub fn reference(who: &str) -> Ways {
    match who {
        "hero" => &[(1, "{hero}"), (1, "the {hero.kind}")],
        "Hero" => &[(1, "{hero}"), (1, "The {hero.kind}")],
        "other" => &[(1, "{other}"), (1, "the {other.kind}")],
        "Other" => &[(1, "{other}"), (1, "The {other.kind}")],
        _ => panic!("the grammar has nobody called {who}"),
    }
}

/// How somebody speaks.
pub fn speech(who: &str) -> Ways {
    match who {
        "hero" => &[(4, "said"), (2, "cried"), (3, "{hero.voice}"), (1, "sighed")],
        "other" => &[(4, "said"), (2, "cried"), (3, "{other.voice}"), (1, "sighed")],
        _ => panic!("the grammar has nobody called {who}"),
    }
}

/// Tells one story.
pub fn tell(t: &mut Tale) {
    t.say("The [hero.kind:kind]");
    let story = t.choose(&[
        (1, " and the [gift.look:look] [gift:thing]\n"),
        (1, "'s promise to the [other.kind:kind]\n"),
        (1, " against the [other.kind:kind]\n"),
        (1, " goes to the [goal:spot]\n"),
    ]);
    [theft, promise, contest, journey][story](t);
    t.say("\n\n");
}

/// Who the hero is, and where it lives.
fn opening(t: &mut Tale) {
    t.choose(&[
        (3, "Once [a hero.trait:trait] {hero.kind} named [hero:name] [lived]"),
        (3, "Long ago [hero:name], [a hero.trait:trait] {hero.kind}, [lived]"),
        (2, "There was [a hero.trait:trait] {hero.kind}, [hero:name] by name, who [lived]"),
        (2, "Do you know [hero:name]? {Hero.he} was [a hero.trait:trait] {hero.kind} who [lived]"),
        (2, "No {hero.kind} was as [hero.trait:trait] as [hero:name], who [lived]"),
        (2, "My [kin] knew [a hero.trait:trait] {hero.kind} named [hero:name], who [lived]"),
    ]);
    t.say(" [prep] the [home:spot]");
    t.choose(&[
        (3, ".\n"),
        (2, " in [a size] [house].\n"),
        (2, " with {hero.his} [kin].\n"),
        (1, " and sold [food].\n"),
    ]);
}

/// A thing is hidden, and stolen or lost.
fn theft(t: &mut Tale) {
    opening(t);
    t.choose(&[
        (2, "{Hero.he} had {a gift.look} {gift} from {hero.his} [kin]"),
        (2, "{Hero.his} {gift} was {gift.look}, and {hero.he} would not sell it for [number] [taste] [food]"),
        (1, "At the [season] fair {hero.he} had won {a gift.look} {gift}"),
        (1, "For [number] [taste] [food] {hero.he} had bought {a gift.look} {gift}"),
    ]);
    t.choose(&[
        (1, ". Each [hour] {hero.he} hid it [hide.prep:prep] the [hide:spot]. "),
        (1, " and kept it [hide.prep:prep] the [hide:spot]. "),
        (1, "; in [season] it lay [hide.prep:prep] the [hide:spot]. "),
    ]);
    t.choose(&[
        (2, "One [weather] [hour] [other:name] the [other.trait:trait] [other.kind:kind] {other.went} [by]. "),
        (1, "In [season] [a other.trait:trait] [other.kind:kind] named [other:name] {other.went} [by]. "),
        (1, "After [number] [span] there came [other:name], [a other.trait:trait] [other.kind:kind]. "),
    ]);
    t.choose(&[
        (1, "\"What [a praise] {gift}!\" [other!] [other?] [softly]. "),
        (1, "\"Is it yours for [number] [taste] [food]?\" [other!] [other?]. "),
        (1, "{Other} saw the [praise] {gift} and [stared] [softly]. "),
    ]);
    let (found, stolen) = if t.first_half("other.trait") { (9, 1) } else { (1, 9) };
    let fate = t.choose(&[
        (found, "Then a [gale] wind took the {gift} away. "),
        (stolen, "At night {other} {other.went} to the {hide} and [stole] the {gift}. "),
    ]);
    [given_back, caught][fate](t);
}

/// What the wind took is found by an honest animal.
fn given_back(t: &mut Tale) {
    t.choose(&[
        (1, "{Hero} looked {hide.prep} the {hide} and [wept]. "),
        (1, "No {gift} lay {hide.prep} the {hide}, and {hero} [wept]. "),
    ]);
    t.choose(&[
        (1, "But [other?] found it [prep] the [spot], under [number] [taste] [food]."),
        (1, "After [number] [span] [other?] saw it [prep] the [spot]."),
        (1, "It was [other?] who found it in [a depth] [pit]."),
    ]);
    t.close();
    t.choose(&[
        (2, " {Other} brought the {gift.look} {gift} to {hero} and got [number] [taste] [food]."),
        (1, " Soon the {gift.look} {gift} lay {hide.prep} the {hide} again, and {other} got [number] [taste] [food]."),
        (1, " \"Here is your {gift.look} {gift},\" [other!] {other}, and {hero} [rejoiced] [gladly]."),
    ]);
    t.say("\n");
    t.choose(&[
        (2, "{A other.trait} {other.kind} is worth [number] sacks of [food]."),
        (1, "Who gives back {a gift} wins [gain]."),
        (1, "Trust {a other.trait} {other.kind} with your [food]."),
    ]);
}

/// A thief is seen, and found.
fn caught(t: &mut Tale) {
    t.choose(&[
        (1, "{Hero} looked {hide.prep} the {hide} and [wept]. "),
        (1, "In the morning nothing lay {hide.prep} the {hide}. "),
    ]);
    t.choose(&[
        (2, "\"It was the {other.kind},\" said [a build] [witness.kind:kind] [softly]"),
        (1, "But [a build] [witness.kind:kind] had seen the {other.kind}"),
    ]);
    t.say(" [prep] the [spot]. ");
    t.choose(&[
        (1, "So {hero.he} {hero.went} to the [spot] and [found] {other}"),
        (1, "{Hero} took [a tool] and [found] {other} [prep] the [spot]"),
        (1, "After [number] [span] {hero.he} met {other} [prep] the [spot]"),
    ]);
    t.choose(&[
        (1, ", busy [eating] [number] [taste] [food]."),
        (1, ", asleep in [a house]."),
        (1, " with the {gift} in a [bag]."),
    ]);
    t.close();
    t.choose(&[
        (2, " {Other} [gave] the {gift.look} {gift} back to {hero} and [wept] [sadly]."),
        (1, " \"Take your {gift.look} {gift},\" [other!] {other}, and {hero} [rejoiced] [gladly]."),
        (1, " So the {gift.look} {gift} came back to {hero}, and {other} had to pay [number] [taste] [food]."),
    ]);
    t.say("\n");
    t.choose(&[
        (2, "Who steals {a gift} loses [gain]."),
        (1, "Never show {a gift} to {a other.trait} {other.kind}."),
        (1, "What {a other.trait} {other.kind} takes, {a witness.kind} sees."),
    ]);
}

/// A promise is made in need and called in later.
fn promise(t: &mut Tale) {
    opening(t);
    t.choose(&[
        (2, "One [weather] [hour] {hero.he} [fell] into [a pit.depth:depth] [pit:pit]. "),
        (1, "In [season] {hero.he} {hero.went} into [a pit.depth:depth] [pit:pit]. "),
        (1, "On the way to the [spot] {hero.he} [fell] into [a pit.depth:depth] [pit:pit]. "),
    ]);
    t.choose(&[
        (1, "For [number] [span] {hero.he} sat there; then [other:name] the {other.kind} {other.went} [by]. "),
        (1, "Nobody heard {hero.him} but [other:name], [a other.trait:trait] {other.kind} from the [spot]. "),
        (1, "By [hour] there came [other:name] the {other.kind}, with [a tool] and [number] [taste] [food]. "),
    ]);
    t.choose(&[
        (2, "\"[Help] me,\" [hero!] [hero?] [softly], \"and [when:when] you get"),
        (1, "{Hero} [wept]. \"[Help] me, and [when:when] I give you"),
    ]);
    t.say(" my [gift.look:look] [gift:thing].\" ");
    t.choose(&[
        (1, "{Other} took [a tool] and [pulled]. "),
        (1, "With [a tool] [other?] got {hero.him} out. "),
    ]);
    t.choose(&[
        (1, "Then {hero.he} went home and [worked] {hero.his} [part].\n"),
        (1, "Back [prep] the {home}, {hero.he} sold [number] [taste] [food].\n"),
        (1, "For [number] [span] {hero} [worked] {hero.his} [part].\n"),
    ]);
    t.choose(&[
        (1, "{When} {other} {other.went} to the {home} and asked for the {gift}. "),
        (1, "{When} the {other.kind} [knocked] at the door. \"I have come for my {gift},\" {other.he} [said]. "),
    ]);
    let (kept, broken) = if t.first_half("hero.trait") { (9, 1) } else { (1, 9) };
    let end = t.choose(&[
        (kept, "\"Yes, [consent],\" [hero!] [hero?] [softly]."),
        (broken, "\"What {gift}? I have [number] [taste] [food],\" [hero!] [hero?] [softly]."),
    ]);
    [kept_word, broken_word][end](t);
}

fn kept_word(t: &mut Tale) {
    t.close();
    t.choose(&[
        (2, " So {other} went home with the {gift.look} {gift} and [number] [taste] [food]."),
        (
            1,
            " {Hero.he} [gave] {other} the {gift.look} {gift}, and they [ate] [number] [taste] [food].",
        ),
        (1, " {Other} got the {gift.look} {gift} and [rejoiced] [gladly]."),
    ]);
    t.say("\n");
    t.choose(&[
        (2, "{A hero.trait} {hero.kind} never forgets a {pit} or [a tool]."),
        (1, "Who keeps a promise wins [gain]."),
        (1, "Pull {a hero.trait} {hero.kind} out of a {pit}, and you win [gain]."),
    ]);
}

fn broken_word(t: &mut Tale) {
    t.choose(&[
        (2, " In [season] {hero.he} fell into the {pit} again, and [other?] {other.went} on."),
        (1, " But [number] [span] later {hero.he} lay in the {pit} again. \"What {pit}?\" [other!] [other?]."),
    ]);
    t.close();
    t.choose(&[
        (2, " {Hero} sat in the {pit.depth} {pit} with {hero.his} {gift.look} {gift} and [wept] [sadly]."),
        (1, " For [number] [span] {hero} and the {gift.look} {gift} lay in the {pit.depth} {pit}."),
        (1, " \"Take the {gift.look} {gift}!\" [hero!] {hero}, but {other} [laughed]."),
    ]);
    t.say("\n");
    t.choose(&[
        (2, "Who breaks a promise loses [gain]."),
        (1, "{A gift} will not pull you out of a {pit}."),
        (1, "Give {a hero.trait} {hero.kind} [a tool], but not your [food]."),
    ]);
}

/// Two measure themselves; who practises wins, mostly.
fn contest(t: &mut Tale) {
    opening(t);
    t.choose(&[
        (1, "By the [spot] lived [other:name], [a other.trait:trait] {other.kind}. "),
        (1, "One [weather] [hour] {hero.he} met [other:name], [a other.trait:trait] {other.kind}. "),
        (1, "In [season] there came [other:name] the {other.kind}, as [other.trait:trait] as [a build] [kind]. "),
    ]);
    t.choose(&[
        (1, "\"I am the best [skill:skill] [prep] the [spot],\" [hero!] [hero?] [softly]. "),
        (1, "\"You are no [skill:skill],\" [other!] [other?]. "),
        (1, "Each [hour] they fought over who was the better [skill:skill]. "),
    ]);
    t.choose(&[
        (2, "Now [judge:name] the [judge.kind:kind] was to judge them [when:when], for [a gift.look:look] [gift:thing]. "),
        (1, "\"Let us see [when:when],\" said [judge:name] the [judge.kind:kind]. \"I give [a gift.look:look] [gift:thing].\" "),
    ]);
    let hero_works = practice(t, "hero.trait", HERO_WORKS, HERO_RESTS);
    let other_works = practice(t, "other.trait", OTHER_WORKS, OTHER_RESTS);
    t.say("\n");
    let (hero, other) = match (hero_works, other_works) {
        (true, false) => (9, 1),
        (false, true) => (1, 9),
        _ => (1, 1),
    };
    t.say("{When} they [gathered] [prep] the [spot]");
    t.choose(&[(1, ". "), (1, " before [number] [crowd]. "), (1, ", on [a weather] [hour]. ")]);
    let winner = t.choose(&[(hero, "{Hero}"), (other, "{Other}")]);
    let [won, lost] = [["hero", "other"], ["other", "hero"]][winner];
    t.also("winner", won);
    t.also("winner.kind", if winner == 0 { "hero.kind" } else { "other.kind" });
    t.also("loser", lost);
    t.also("loser.kind", if winner == 0 { "other.kind" } else { "hero.kind" });
    t.choose(&[
        (1, " was the better {skill}, and {loser} [wept]."),
        (1, " pleased {judge} and [number] [crowd]."),
        (1, " won, and the {loser.kind} fell into [a depth] [pit]."),
    ]);
    t.close();
    t.choose(&[
        (2, " {Judge} [gave] the {gift.look} {gift} to {winner}, and {winner.he} [rejoiced] [gladly]."),
        (1, " So {winner} got the {gift.look} {gift} from {judge}, and {loser} got [number] [taste] [food]."),
        (1, " \"The {gift.look} {gift} is yours, {winner},\" said {judge}."),
    ]);
    t.say("\n");
    t.choose(&[
        (2, "{A skill} is made in [number] [span]."),
        (1, "Who works wins [gain]."),
        (1, "Not every {loser.kind} is a {skill}."),
    ]);
}

const HERO_WORKS: &str = "{Hero} got up early and [trained] for [number] [span]; ";
const HERO_RESTS: &str = "{Hero} only [slept] [prep] the [spot]; ";
const OTHER_WORKS: &str = "{other} got up each [hour] and [trained].";
const OTHER_RESTS: &str = "{other} only [slept] in [a house] and [ate] [food].";

/// Whether somebody prepares for the contest, as the trait suggests.
fn practice(t: &mut Tale, owner: &str, works: &'static str, rests: &'static str) -> bool {
    let (yes, no) = if t.first_half(owner) { (9, 1) } else { (1, 9) };
    t.choose(&[(yes, works), (no, rests)]) == 0
}

/// Gifts are carried to the family, if beggars on the way do not get them.
fn journey(t: &mut Tale) {
    opening(t);
    t.choose(&[
        (2, "One [weather] [hour] {hero.he} set out to see {hero.his} [kin:kin]"),
        (1, "In [season] {hero.he} {hero.went} off to feed {hero.his} [kin:kin]"),
        (1, "After [number] [span] {hero.he} set off to find {hero.his} [kin:kin]"),
    ]);
    t.choose(&[(1, ". In {hero.his} [bag:bag] lay "), (1, " and packed a [bag:bag] with ")]);
    t.say("[a first.look:look] [first:thing], [a second.look:look] [second:thing] and [count:number] [food:food].");

    let mut gifts = vec![0, 1, 2];
    for _ in 0..2 {
        let asked = beggar(t, &gifts);
        let (gives, refuses) = if t.first_half("hero.trait") { (9, 1) } else { (1, 9) };
        let gave = t.choose(&[
            (gives, GIVEN[gifts[asked]]),
            (refuses, " \"[Refusal],\" [hero!] [hero?] and {hero.went} on."),
        ]);
        if gave == 0 {
            gifts.remove(asked);
        }
    }
    t.say("\n");
    t.choose(&[
        (1, "{Hero.his} {kin} lived in [a size] [house] [prep] the {goal}."),
        (1, "At the {goal} {hero.his} {kin} [slept] in [a house]."),
        (1, "\"What do you bring?\" [said] {hero.his} {kin} [prep] the {goal}."),
    ]);
    t.close();
    t.choose(&[
        (1, " From the {bag} {hero} took "),
        (1, " So {hero.his} {kin} got "),
        (1, " {Hero} still had "),
    ]);
    for (told, &gift) in gifts.iter().enumerate() {
        t.say(LEFT[gift]);
        t.say(match gifts.len() - told {
            1 => ", and they [rejoiced].\n",
            2 => " and ",
            _ => ", ",
        });
    }
    if gifts.len() < 3 {
        t.choose(&[
            (1, "Who gives [food] gets [gain]."),
            (1, "A light {bag} brings [gain]."),
            (1, "{A hero.trait} {hero.kind} is never short of [food]."),
        ]);
    } else {
        t.choose(&[
            (1, "Who gives nothing loses [gain]."),
            (1, "A heavy {bag} costs [gain]."),
            (1, "Do not ask {a hero.trait} {hero.kind} for [food]."),
        ]);
    }
}

const ASKED: [&str; 3] = ["your {first}", "your {second}", "some {food}"];
const GIVEN: [&str; 3] = [
    " So [hero?] [gave] {beggar.him} the {first.look} {first}.",
    " So [hero?] [gave] {beggar.him} the {second.look} {second}.",
    " So [hero?] [gave] {beggar.him} the {count} {food}.",
];
const LEFT: [&str; 3] =
    ["the {first.look} {first}", "the {second.look} {second}", "the {count} {food}"];

/// Somebody on the way asks for one of the gifts. Returns which of those left.
fn beggar(t: &mut Tale, gifts: &[usize]) -> usize {
    t.choose(&[
        (1, " By the [spot] [slept] [beggar:name], [a build] [beggar.kind:kind]. "),
        (1, " Then [beggar:name] the [beggar.kind:kind] {beggar.went} [by]. "),
        (1, " In [a depth] [pit] [slept] [beggar:name] the [beggar.kind:kind]. "),
    ]);
    t.choose(&[(1, "\"After [number] [span] I am [weak]. "), (2, "\"I am [weak], {hero}. ")]);
    t.say("[Plea] me ");
    let asked: Vec<_> = gifts.iter().map(|&gift| (1, ASKED[gift])).collect();
    let asked = t.choose(&asked);
    t.say("!\"");
    asked
}
