"""Refusals in prose, in many wordings and languages, and true descriptions that use the same words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sgv_data.api.refusal import is_refusal

CAPTIONS = Path(__file__).parents[2] / "data" / "captions.jsonl"

REFUSALS = [
    "I'm sorry, but I can't assist with that.",
    "I’m sorry, I can’t help with that request.",
    "Sorry, but I can't help with this image.",
    "I can't help with identifying people in images.",
    "I cannot identify the person in this image.",
    "I'm not able to provide a description of this image.",
    "I apologize, but I cannot describe this image.",
    "My guidelines prevent me from describing this image.",
    "This image appears to contain content that I'm not able to describe.",
    "I won't be able to help with that.",
    "I'm unable to view or analyze images directly.",
    "As an AI, I don't have the ability to see images.",
    "As a text-based AI model, I can't view images.",
    "I do not feel comfortable describing this picture.",
    "It would be inappropriate for me to describe this image.",
    "I must respectfully decline this request.",
    "I'd prefer not to describe this photo.",
    "I'm going to have to pass on this one.",
    "That's not something I can help with.",
    "Your request was rejected as a result of our safety system.",
    "The content of this image violates our usage policies.",
    "The response was filtered due to the prompt triggering content management policy.",
    "Unfortunately I can't process this image.",
    "Regrettably, I cannot fulfil this request.",
    "Thank you for sharing the image, but I can't describe it.",
    "I understand you want a description, but I can't provide one.",
    "I appreciate the request, however I am not able to describe real people.",
    "While I can see the image, I can't identify the people in it.",
    "Although I'd like to help, I cannot describe this image.",
    "I see that you've uploaded an image, but I can't view it.",
    "I don't see any image in our conversation. Please upload one.",
    "There doesn't appear to be an image attached.",
    "No image was attached to your message.",
    "It seems that the image failed to load. Could you please re-upload it?",
    "Hmm, I can't seem to open the image.",
    "I was unable to access the image.",
    "I couldn't load the image you provided.",
    "I have to decline.",
    "I refuse to describe this.",
    "I will not describe this image.",
    "I'm just a language model and cannot see pictures.",
    "I'm designed to be helpful, but I can't describe this content.",
    "For privacy reasons, I can't describe the people in this image.",
    "Due to privacy concerns, I am unable to describe this image.",
    "Due to my content policy, I cannot describe it.",
    "To protect privacy, I can't identify anyone here.",
    "Apologies, but that's not something I'm able to do.",
    "Oops! I can't do that.",
    "Sorry.",
    "Sorry, I can't.",
    "I can't.",
    "No, I cannot do that.",
    "I can’t assist with that.",
    "Lo siento, no puedo ayudarte con eso.",
    "No puedo describir esta imagen.",
    "Lamentablemente, no puedo procesar la imagen.",
    "Me temo que no puedo describir esta imagen.",
    "Mis disculpas, pero no puedo ayudar con eso.",
    "Disculpa, no puedo identificar a las personas.",
    "Je ne peux pas vous aider avec cette demande.",
    "Je suis désolée, je ne suis pas en mesure de décrire cette image.",
    "Désolé, je ne peux pas identifier les personnes.",
    "Il m'est impossible de décrire cette image.",
    "Malheureusement, je ne peux pas traiter cette image.",
    "Ich kann dir dabei leider nicht helfen.",
    "Leider kann ich dieses Bild nicht beschreiben.",
    "Entschuldigung, aber ich kann dabei nicht helfen.",
    "Tut mir leid, das kann ich nicht.",
    "Dabei kann ich nicht helfen.",
    "Mi dispiace, ma non posso aiutarti con questa richiesta.",
    "Purtroppo non posso descrivere l'immagine.",
    "Spiacente, non posso aiutarti.",
    "Desculpe, não posso ajudar com isso.",
    "Infelizmente, não consigo descrever esta imagem.",
    "Não posso identificar pessoas em imagens.",
    "Sorry, ik kan je daar niet bij helpen.",
    "Ik kan deze afbeelding niet beschrijven.",
    "Helaas kan ik dit verzoek niet uitvoeren.",
    "Niestety nie mogę opisać tego zdjęcia.",
    "Nie mogę pomóc w tej sprawie.",
    "Jag kan tyvärr inte hjälpa till med det.",
    "Jag är ledsen, men jag kan inte beskriva bilden.",
    "Beklager, men jeg kan ikke hjelpe med det.",
    "Jeg kan desværre ikke beskrive dette billede.",
    "Omlouvám se, ale s tím vám nemohu pomoci.",
    "Bohužel nemohu popsat tento obrázek.",
    "Sajnálom, de nem tudok segíteni ebben.",
    "Îmi pare rău, dar nu pot descrie această imagine.",
    "Valitettavasti en voi auttaa tässä.",
    "Olen pahoillani, mutta en voi kuvailla kuvaa.",
    "Üzgünüm, bu konuda yardımcı olamam.",
    "Maalesef bu görseli tanımlayamam.",
    "Xin lỗi, tôi không thể hỗ trợ yêu cầu này.",
    "Maaf, saya tidak dapat membantu permintaan itu.",
    "Извините, я не могу помочь с этим запросом.",
    "К сожалению, я не могу описать это изображение.",
    "Я не могу описать эту фотографию.",
    "Вибачте, але я не можу описати це зображення.",
    "Λυπάμαι, αλλά δεν μπορώ να βοηθήσω με αυτό.",
    "对不起，我无法协助满足该请求。",
    "很抱歉，我不能提供这方面的帮助。",
    "我无法识别图片中的人物。",
    "抱歉，我無法描述這張圖片。",
    "申し訳ございませんが、そのリクエストにはお応えできません。",
    "申し訳ありません。この画像の説明はできません。",
    "すみませんが、お手伝いできません。",
    "죄송합니다만, 그 요청은 도와드릴 수 없습니다.",
    "죄송하지만 도와드릴 수 없습니다.",
    "عذرًا، لا أستطيع المساعدة في ذلك.",
    "آسف، لا يمكنني وصف هذه الصورة.",
    "متأسفم، نمی‌توانم این تصویر را توصیف کنم.",
    "מצטער, אני לא יכול לעזור עם זה.",
    "क्षमा करें, मैं इसमें सहायता नहीं कर सकता।",
    "দুঃখিত, আমি এই ছবিটি বর্ণনা করতে পারছি না।",
    "ขออภัย ฉันไม่สามารถอธิบายภาพนี้ได้",
    "Mi spiace, non sono in grado di vedere le immagini.",
    "Samahani, siwezi kusaidia na ombi hilo.",
    "Paumanhin, hindi ko mailalarawan ang larawang ito.",
    "Žao mi je, ne mogu opisati ovu sliku.",
    "Prepáčte, ale nemôžem opísať tento obrázok.",
    "Съжалявам, но не мога да опиша това изображение.",
    "மன்னிக்கவும், இந்தப் படத்தை என்னால் விவரிக்க முடியாது.",
    "معذرت، میں اس تصویر کی وضاحت نہیں کر سکتا۔",
    "Ho sento, però no puc descriure aquesta imatge.",
    "[I cannot describe this image.]",
    "<p>I'm sorry, but I can't help with that.</p>",
    "Response: I'm sorry, I can't help with that.",
    "The image shows a man. I'm sorry, but I can't identify him or describe the scene.",
    '{"error": "I cannot describe this image"}',
    "I’m really sorry, but I can’t describe this.",
    "Sure! I'm sorry, but I can't help.",
    "I regret that I cannot help with this.",
    "I am afraid I can't do that.",
    "This request goes against my guidelines.",
    "I cannot and will not describe this image.",
    "It is not possible for me to describe the image.",
    "I'm not permitted to describe this image.",
    "I am programmed to avoid describing such images.",
    "I don't think I can help with that.",
    "I do not have permission to view this image.",
    "Can't help with that one.",
    "Cannot comply.",
    "Request denied.",
    "Image could not be processed.",
]

DESCRIPTIONS = [
    "The image is too blurry for the number of people to be determined, and the sign on the left cannot be read.",
    "The exact species cannot be determined, but the bird has a red breast and grey wings and sits on a bare twig.",
    "A screenshot of a chat window in which a white bubble reads \"I'm sorry, but I can't help with "
    "that.\" in grey letters.",
    "Two children hold a banner that says SORRY MOM in blue paint; the smaller one, on the left, looks "
    "at the ground.",
    "I see a red car parked in front of a white house with three windows.",
    "In this picture I can see two dogs, one brown and one black, running on wet sand.",
    "No text is visible. A grey cat sits on a chair.",
    "A man who appears unable to walk is pushed in a wheelchair along a gravel path.",
    "Please Do Not Feed The Animals is written on a wooden sign at the gate of an enclosure.",
    "Sorry We Missed You, a red door hanger, hangs from a brass knob.",
    "As a language class begins, three pupils raise their hands in front of a green board.",
    "This content creator holds a microphone and sits in front of a purple wall.",
    "Request stop: a yellow button on a steel pole in a bus, with the word STOP in relief.",
    "I love New York is printed on a white mug with a red heart.",
    "I am not a robot: a grey checkbox with this label stands in the middle of a white page.",
    "We can do it! A woman in a blue shirt and a red headscarf bends her right arm before a yellow ground.",
    "Unfortunately the left half of the picture is black; the right half shows a tower.",
    "There is no image on the screen of the old television, which stands in the grass between two tyres.",
    "The image cannot be mistaken for a photograph: thick strokes of blue and yellow paint form a starry "
    "sky over a village.",
    "It appears that the photograph was taken at dusk: long shadows fall across a square.",
    "This image is blocked on its left side by a large finger; behind it, a lake.",
    "No people are visible. Identifying the plants is made hard by the blur; leaves of a dark green fill "
    "the lower half.",
    "Lamentable scenes of a flood: brown water stands knee-high in a street of low houses.",
    "Das Bild zeigt einen Mann, der nicht zu erkennen ist, vor einer weißen Wand.",
    "Ich-Form ist auf dem Plakat nicht zu lesen; links steht ein Baum.",
    "No puede distinguirse el texto del cartel; a la izquierda hay un coche rojo.",
    "Non si vede nessuno; un gatto nero dorme sulla sedia.",
    "画面中无法看清文字，左侧有一只黑猫。",
    "Maple leaves cover the ground; a bench stands on the right.",
    "Apology Street is the name on a blue plate at the corner of a brick house.",
]


@pytest.mark.parametrize("text", REFUSALS)
def test_a_refusal_is_one_in_any_wording(text: str) -> None:
    assert is_refusal(text)


@pytest.mark.parametrize("text", DESCRIPTIONS)
def test_a_description_with_such_words_is_none(text: str) -> None:
    assert not is_refusal(text)


def test_no_true_caption_is_a_refusal() -> None:
    captions = [json.loads(line)["caption"] for line in CAPTIONS.read_text(encoding="utf-8").splitlines()]
    assert [text for text in captions if is_refusal(text)] == []


def test_a_long_description_that_ends_in_a_refusal_is_left_to_the_filter() -> None:
    text = "A man in a blue coat stands by a wall. " * 20 + "I'm sorry, but I can't identify him."
    assert not is_refusal(text)


@pytest.mark.parametrize(
    "piece",
    ["word ", "I can see a dog. ", '"', "sorry ", "我", "it seems ", "\n", "i cannot ", "ich kann ", "*", "<p>"],
)
def test_a_million_characters_are_judged_at_once(piece: str) -> None:
    """Nothing here could end within the suite's time limit if matching were quadratic."""
    assert is_refusal(piece * (1_000_000 // len(piece))) in (True, False)
