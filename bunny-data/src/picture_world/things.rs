//! Things that are no shapes. Texts tell of their colours, and never of a shape's: which shapes have
//! which colours is for pictures to teach, where it can be seen.

use super::ask::capital;
use super::dice::Dice;
use super::vocabulary::Shape;

/// One of a thing, and several.
const THINGS: &[(&str, &str)] = &[
    ("ball", "balls"),
    ("basket", "baskets"),
    ("bell", "bells"),
    ("box", "boxes"),
    ("car", "cars"),
    ("chair", "chairs"),
    ("coat", "coats"),
    ("cup", "cups"),
    ("door", "doors"),
    ("drum", "drums"),
    ("fork", "forks"),
    ("kite", "kites"),
    ("lamp", "lamps"),
    ("pen", "pens"),
    ("pot", "pots"),
    ("shoe", "shoes"),
    ("sock", "socks"),
    ("spoon", "spoons"),
    ("table", "tables"),
    ("tent", "tents"),
    ("train", "trains"),
    ("tree", "trees"),
    ("van", "vans"),
    ("vase", "vases"),
];

/// A text that tells the same of other things: one for each shape.
pub(super) fn instead_of_shapes(text: &str, dice: &mut Dice) -> String {
    let mut things = THINGS.to_vec();
    dice.shuffle(&mut things);
    let other = |word: &str| {
        let lower = word.to_lowercase();
        let shapes = Shape::ALL.iter().zip(&things);
        let mut forms = shapes
            .flat_map(|(shape, (one, several))| [(shape.name(), *one), (shape.plural(), *several)]);
        let found = match lower.as_str() {
            "shape" => Some("thing"),
            "shapes" => Some("things"),
            _ => forms.find(|(from, _)| *from == lower).map(|(_, to)| to),
        };
        match found {
            Some(to) if word.starts_with(char::is_uppercase) => capital(to),
            Some(to) => to.to_owned(),
            None => word.to_owned(),
        }
    };
    let mut told = String::with_capacity(text.len());
    let mut word = String::new();
    for letter in text.chars() {
        if letter.is_alphabetic() {
            word.push(letter);
            continue;
        }
        told += &other(&std::mem::take(&mut word));
        told.push(letter);
    }
    told + &other(&word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_shapes_change_and_nothing_else() {
        let text = "There are two red stars. A starry ring: \"red\"; Star, shapes?";
        let told = instead_of_shapes(text, &mut Dice::new(&[3]));
        let words =
            |of: &str| -> Vec<String> { of.split_whitespace().map(str::to_owned).collect() };
        let (before, after) = (words(text), words(&told));
        assert_eq!(before.len(), after.len());
        let changed = |at: usize| before[at] != after[at];
        let places: Vec<usize> = (0..before.len()).filter(|at| changed(*at)).collect();
        assert_eq!(places, [4, 7, 9, 10]);
        assert_eq!(after[10], "things?");
        let one = after[9].trim_end_matches(',').to_lowercase();
        let thing = THINGS.iter().find(|(name, _)| *name == one).unwrap();
        assert_eq!(after[4], format!("{}.", thing.1));
        // With "a", not "an".
        assert!(
            THINGS
                .iter()
                .all(|(name, _)| !name.starts_with(['a', 'e', 'i', 'o', 'u']))
        );
    }
}
