//! What can be asked without a picture: arithmetic with small numbers, and facts of the world.

use super::ask::{Question, QuestionKind, capital, say};
use super::dice::Dice;
use super::vocabulary::World;
use bunny_base::random::mix_all;

/// Sums and facts, half and half. A sixth of the sums is held out: the test asks those alone. Facts
/// are to be remembered and are the same in both worlds.
pub(super) fn question(world: World, dice: &mut Dice) -> Question {
    if dice.percent(50) {
        arithmetic(world, dice)
    } else {
        fact(dice)
    }
}

fn arithmetic(world: World, dice: &mut Dice) -> Question {
    loop {
        let operation = dice.weighted(&[40, 30, 10, 10, 10]);
        let (a, b) = match operation {
            0 => (dice.below(11), dice.below(11)),
            1 => {
                let (result, b) = (dice.below(11), dice.below(11));
                (result + b, b)
            }
            2 => (dice.below(6), dice.below(6)),
            _ => (dice.below(21), dice.below(21)),
        };
        let held_out =
            mix_all(&[0x0053_554D, operation as u64, a as u64, b as u64]).is_multiple_of(6);
        if held_out != (world == World::Test) || (operation == 4 && a == b) {
            continue;
        }
        let (x, y) = (a.to_string(), b.to_string());
        let (forms, answer): (&[&str], usize) = match operation {
            0 => (
                &[
                    "What is {x} plus {y}?",
                    "What is {x} + {y}?",
                    "Add {x} and {y}.",
                ],
                a + b,
            ),
            1 => (
                &[
                    "What is {x} minus {y}?",
                    "What is {x} - {y}?",
                    "Take {y} from {x}.",
                ],
                a - b,
            ),
            2 => (&["What is {x} times {y}?", "Multiply {x} by {y}."], a * b),
            3 => (
                &[
                    "Which number comes after {x}?",
                    "What is the next number after {x}?",
                ],
                a + 1,
            ),
            _ => (
                &[
                    "Which is larger, {x} or {y}?",
                    "Is {x} or {y} the larger number?",
                ],
                a.max(b),
            ),
        };
        let short = answer.to_string();
        let long = say(
            dice,
            &["It is {x}.", "{x}.", "That is {x}."],
            [&short, "", ""],
        );
        return Question {
            kind: QuestionKind::Text,
            text: say(dice, forms, [&x, &y, ""]),
            short,
            long,
            choices: 25,
        };
    }
}

fn fact(dice: &mut Dice) -> Question {
    let (text, short) = dice.pick(FACTS);
    let long = match dice.below(3) {
        0 => format!("It is {short}."),
        _ => format!("{}.", capital(short)),
    };
    let long = match *short {
        "yes" | "no" => format!("{}.", capital(short)),
        _ => long,
    };
    Question {
        kind: QuestionKind::Text,
        text: (*text).to_owned(),
        short: (*short).to_owned(),
        long,
        choices: 25,
    }
}

const FACTS: &[(&str, &str)] = &[
    ("How many sides does a triangle have?", "3"),
    ("How many corners does a triangle have?", "3"),
    ("How many sides does a square have?", "4"),
    ("How many corners does a square have?", "4"),
    ("How many sides does a diamond have?", "4"),
    ("How many corners does a circle have?", "0"),
    ("How many arms does a cross have?", "4"),
    ("Which shape has three sides?", "triangle"),
    ("Which shape has no corners and no hole?", "circle"),
    ("Which shape is a circle with a hole?", "ring"),
    ("Which shape stands for love?", "heart"),
    ("Which shape shines in the sky at night?", "star"),
    ("What colour is the sky on a clear day?", "blue"),
    ("What colour is grass?", "green"),
    ("What colour is snow?", "white"),
    ("What colour is coal?", "black"),
    ("What colour is a ripe banana?", "yellow"),
    ("What colour is blood?", "red"),
    ("What colour is a carrot?", "orange"),
    ("What colour is a plum?", "purple"),
    ("What colour do red and yellow make?", "orange"),
    ("What colour do blue and yellow make?", "green"),
    ("What colour do red and blue make?", "purple"),
    ("What is the opposite of black?", "white"),
    ("What is the opposite of left?", "right"),
    ("What is the opposite of top?", "bottom"),
    ("What is the opposite of large?", "small"),
    ("What is the opposite of yes?", "no"),
    ("What is the opposite of above?", "below"),
    ("How many legs does a cat have?", "4"),
    ("How many legs does a bird have?", "2"),
    ("How many wheels does a car have?", "4"),
    ("How many days are there in a week?", "7"),
    ("How many months are there in a year?", "12"),
    ("How many fingers are there on a hand?", "5"),
    ("Which animal barks?", "dog"),
    ("Which animal says meow?", "cat"),
    ("Which animal lives in water and swims?", "fish"),
    ("Which animal has wings and sings?", "bird"),
    ("What do you open a door with?", "key"),
    ("What do you wear on your head?", "hat"),
    ("What do you drink from?", "cup"),
    ("What do you write with?", "pen"),
    ("What do you sleep in?", "bed"),
    ("What shines in the sky by day?", "sun"),
    ("What shines in the sky at night and is round?", "moon"),
    ("What falls from the clouds when it is wet?", "rain"),
    ("What grows in a forest and has leaves?", "tree"),
    ("Is ice cold?", "yes"),
    ("Is fire cold?", "no"),
    ("Is a square round?", "no"),
    ("Is a circle round?", "yes"),
    ("Can a fish swim?", "yes"),
    ("Can a stone swim?", "no"),
    ("Is snow black?", "no"),
    ("Is grass green?", "yes"),
    ("Is ten more than nine?", "yes"),
    ("Is two more than five?", "no"),
];

/// What is said to the model itself, and its answer.
pub(super) const SMALL_TALK: &[(&str, &str)] = &[
    ("Hello!", "Hello! Show me a picture and ask me about it."),
    ("Hi.", "Hi! What would you like to know?"),
    ("Good morning.", "Good morning! Ask me about a picture."),
    (
        "Who are you?",
        "I am a very small Bunny. I know shapes, colours, numbers and a few words.",
    ),
    (
        "What can you do?",
        "I can talk about pictures of shapes, numbers and words, and do small sums.",
    ),
    (
        "What do you know?",
        "I know eight shapes, twelve colours, numbers and some words.",
    ),
    ("Thank you.", "You are welcome!"),
    ("Thanks!", "You are welcome!"),
    ("Goodbye.", "Goodbye!"),
    ("Are you a person?", "No, I am a small model."),
];
