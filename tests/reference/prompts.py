"""The prompts of the SmolLM2 reference: a string is text as is, a list is chat messages."""

LONG_TEXT = """The lighthouse on Corran Point was built in 1871 by a family of masons from the mainland. It stands \
forty-two metres above the sea, and its lamp can be seen from a distance of nineteen nautical miles. For the first \
sixty years the light burned oil, which was carried up the stairs in copper cans every evening before sunset. There \
are one hundred and ninety-eight steps, and the keepers used to say that each of them had its own sound.

The first keeper was a quiet man called Tobias Fenn. He had been a sailor until he lost two fingers of his left hand \
to a rope, and he wrote a diary that is now kept in the museum of the harbour town. On most days he noted only the \
wind, the state of the sea and the number of ships that passed. On the ninth of November 1880 he wrote a whole page. \
A storm from the north-west had broken three windows of the lantern room, and he and his daughter Mary held wet sails \
against the openings through the night so that the flame would not go out. In the morning they counted eleven fishing \
boats in the shelter of the bay, and not one of them had been lost.

Mary Fenn became the second keeper in 1894. She was the first woman on that coast to hold the post, although the \
letter of appointment called her a temporary assistant for the next twenty-six years. She planted a garden on the \
side that faces away from the wind: potatoes, cabbage, beans, and a single apple tree that leaned over the wall. She \
also kept bees. Visitors to the point remembered the honey, which was dark and tasted a little of salt and heather. \
In her time the oil lamp was replaced by a burner with a mantle, and the old copper cans were used to water the beans.

In 1931 the light was made electric. A cable was laid along the causeway, and a small engine house was built for the \
days on which the cable failed. The fourth keeper, Arthur Bell, was an engineer by training and disliked the stairs. \
He fitted a pulley and a basket to the outer wall so that his dinner could be pulled up to the lantern room. The \
basket is still there. The pulley was stolen in 1969 and returned in 1970, with a note that said only "sorry".

The last keeper left in 1988, when the light was made automatic. Since then a company from the harbour town has \
checked the lamp four times a year. The garden was wild for a long time, but in 2004 a group of neighbours cleared the \
paths and pruned the apple tree, and every September they sell juice and honey at the foot of the tower. The money \
pays for paint: the tower needs three hundred and ten litres of white and ninety litres of red every seventh year. \
Children from the school come in May to count the steps, and they never agree about the number.
"""

PROMPTS = {
    "chat": [{"role": "user", "content": "What is the capital of France?"}],
    "chat-system": [
        {"role": "system", "content": "You are a pirate. Answer in one short sentence."},
        {"role": "user", "content": "Where do you live?"},
        {"role": "assistant", "content": "Arr, on the seven seas, matey!"},
        {"role": "user", "content": "And what do you eat there?"},
    ],
    "chat-multi-turn": [
        {"role": "user", "content": "I have a dog named Bruno."},
        {"role": "assistant", "content": "That is lovely! How old is Bruno?"},
        {"role": "user", "content": "He is 4 years old and he likes to swim."},
        {"role": "assistant", "content": "Swimming is a great exercise for dogs.\nDoes he swim in a lake?"},
        {"role": "user", "content": "Yes. What is the name of my dog, and how old is he?"},
    ],
    "plain-text": "Once upon a time, in a small village by the sea, there lived an old clockmaker who",
    "code": 'def fibonacci(n):\n    """Return the n-th Fibonacci number."""\n    if n < 2:\n        return n\n',
    "code-rust": "/// Reverses the words of a sentence.\npub fn reverse_words(text: &str) -> String {\n\tlet words",
    "digits": "12 + 35 = 47\n120 + 350 = 470\n3.14159 * 2 = 6.28318\n1024 / 4 =",
    "chinese": "中国的首都是北京。法国的首都是",
    "japanese": "昔々、あるところに、おじいさんとおばあさんが",
    "russian": "Столица Франции — Париж. Столица Германии —",
    "arabic": "عاصمة فرنسا هي باريس، وعاصمة مصر هي",
    "emoji-whitespace": "Mood:  😀🎉\t\t👩‍👩‍👧   \n\n  — naïve café…  ½ cup \r\n   🇫🇷 means",
    "single-token": "The",
    "long": LONG_TEXT + "\nQuestion: Who was the first keeper of the lighthouse?\nAnswer:",
    "long-chat": [
        {"role": "user", "content": LONG_TEXT + "\nSummarize the text above in two sentences."},
    ],
}
