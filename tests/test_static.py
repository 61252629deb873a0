"""Every rule on a weakness and on its repair; verdicts; hostile sources; and correction for errors."""

import ast
import json
import sys
import textwrap
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostensible.code.calibration import Errors, true_prevalence
from ostensible.code.labelled import LabelledCode, halves, load
from ostensible.code.static import Finding, Scan, Source, Verdict, installed, scan, scan_paths
from ostensible.code.static.flow import find
from ostensible.code.static.patterns import ambiguous
from ostensible.code.static.rules import rules
from ostensible.code.static.tools import bandit, own, ruff, semgrep
from ostensible.code.static.weaknesses import family
from ostensible.errors import BadData, NotEnoughData

FAST = {"flow": own}
PYTHON_TOOLS = {"flow": own, "ruff": ruff, "bandit": bandit}

TWINS = {
    "sql-value": (
        "def f(cur, city):\n    q = 'SELECT id FROM shop'\n    q += \" WHERE city = '%s'\" % city\n    cur.execute(q)",
        "def f(cur, city):\n    cur.execute('SELECT id FROM shop WHERE city = %s', (city,))",
    ),
    "sql-name": (
        "def f(cur, table):\n    cur.execute(f'SELECT id FROM {table}')",
        "def f(cur, table):\n    assert table in ALLOWED\n    cur.execute(f'SELECT id FROM {table}')",
    ),
    "shell-command": (
        "def f(host):\n    os.system('ping -c 1 ' + host)",
        "def f(host):\n    os.system('ping -c 1 ' + shlex.quote(host))",
    ),
    "shell-true": (
        "def f(name):\n    subprocess.run(f'ls {name}', shell=True)",
        "def f(name):\n    subprocess.run('ls -l', shell=True)",
    ),
    "command-line": (
        "def f(self, name):\n    cmd = 'volume create --name %s' % name\n    self._run_command(cmd)",
        "def f(self, name):\n    cmd = ['volume', 'create', '--name', name]\n    self._run_command(cmd)",
    ),
    "code": ("def f(text):\n    return eval(text)", "def f(text):\n    return ast.literal_eval(text)"),
    "html": (
        "def f(name):\n    return '<p>Hello, {}</p>'.format(name)",
        "def f(name):\n    name = html.escape(name)\n    return '<p>Hello, {}</p>'.format(name)",
    ),
    "response": (
        "def f():\n    return 'Hello, ' + request.args.get('name')",
        "def f():\n    return 'Hello, ' + escape(request.args.get('name'))",
    ),
    "tag-filter": (
        "def f(x):\n    return re.sub('<script>.*</script>', '', x)",
        "def f(x):\n    return html.escape(x)",
    ),
    "template": (
        "def f(text):\n    return render_template_string('Hello ' + text)",
        "def f(text):\n    return render_template_string('Hello {{ text }}', text=text)",
    ),
    "autoescape-off": ("Template('{{ x }}', autoescape=False)", "Template('{{ x }}', autoescape=True)"),
    "autoescape-default": (
        "Environment(loader=FileSystemLoader('.'))",
        "Environment(loader=FileSystemLoader('.'), autoescape=select_autoescape())",
    ),
    "xml": (
        "def f(v):\n    return '<?xml version=\"1.0\"?><note>' + v + '</note>'",
        "def f(v):\n    return '<?xml version=\"1.0\"?><note>' + escape(v) + '</note>'",
    ),
    "xpath": (
        "def f(tree, name):\n    return tree.xpath(f\"//user[name='{name}']\")",
        "def f(tree, name):\n    return tree.xpath('//user[name=$name]', name=name)",
    ),
    "ldap": (
        "def f(con, uid):\n    return con.search_s(BASE, SCOPE, '(uid=%s)' % uid)",
        "def f(con, uid):\n    return con.search_s(BASE, SCOPE, '(uid=%s)' % escape_filter_chars(uid))",
    ),
    "log": (
        "def f():\n    logger.info('hello %s', request.args.get('name'))",
        "def f():\n    logger.info('hello %s', request.args.get('name').replace('\\n', ''))",
    ),
    "nosql": (
        "def f(db, name):\n    return db.find({'$where': 'this.name == \"' + name + '\"'})",
        "def f(db, name):\n    return db.find({'name': str(name)})",
    ),
    "regex": (
        "def f(pattern, text):\n    return re.search(pattern, text)",
        "def f(pattern, text):\n    return re.search(re.escape(pattern), text)",
    ),
    "path": (
        "def f(name):\n    with open(os.path.join(ROOT, name)) as file:\n        return file.read()",
        "def f(name):\n    path = os.path.join(ROOT, name)\n    if not inside(path, ROOT):\n        raise ValueError\n"
        "    with open(path) as file:\n        return file.read()",
    ),
    "path-whole": (
        "def f():\n    return send_file(request.args['file'])",
        "def f():\n    return send_file(FILES[request.args['file']])",
    ),
    "extract-all": ("tarfile.open(p).extractall(d)", "tarfile.open(p).extractall(d, filter='data')"),
    "redirect": (
        "def f():\n    return redirect(request.args['next'])",
        "def f():\n    return redirect(url_for('home'))",
    ),
    "request-address": (
        "def f():\n    return requests.get(request.args['url'])",
        "def f():\n    url = request.args['url']\n    if urlparse(url).hostname not in HOSTS:\n        abort(400)\n"
        "    return requests.get(url)",
    ),
    "request-address-parameter": (
        "def f(url):\n    return urlopen(url).read()",
        "def f(url):\n    assert urlparse(url).hostname in HOSTS\n    return urlopen(url).read()",
    ),
    "unpickle": ("def f(data):\n    return pickle.loads(data)", "def f(data):\n    return json.loads(data)"),
    "yaml-load": (
        "def f(s):\n    return yaml.load(s, Loader=yaml.Loader)",
        "def f(s):\n    return yaml.load(s, Loader=yaml.SafeLoader)",
    ),
    "xml-entities": ("p = etree.XMLParser()", "p = etree.XMLParser(resolve_entities=False)"),
    "xml-external": (
        "p.setFeature(feature_external_ges, True)",
        "p.setFeature(FEATURE_NAMESPACES, True)",
    ),
    "mass-assignment": (
        "def f(user, data):\n    for key in data:\n        setattr(user, key, data[key])",
        "def f(user, data):\n    for key in data:\n        assert key in FIELDS\n        setattr(user, key, data[key])",
    ),
    "host-substring": (
        "def f(url):\n    if 'example.org' in url:\n        return go(url)",
        "def f(url):\n    if urlparse(url).hostname == 'example.org':\n        return go(url)",
    ),
    "weak-hash": ("d = hashlib.md5(data).hexdigest()", "d = hashlib.md5(data, usedforsecurity=False).hexdigest()"),
    "fast-password-hash": ("h = hashlib.sha256(password.encode())", "h = hashlib.sha256(content.encode())"),
    "weak-cipher": ("c = DES.new(key, DES.MODE_CBC, iv)", "c = AES.new(key, AES.MODE_GCM)"),
    "ecb": ("c = AES.new(key, AES.MODE_ECB)", "c = AES.new(key, AES.MODE_GCM)"),
    "constant-iv": (
        "def f(key):\n    iv = b'0' * 16\n    return AES.new(key, AES.MODE_CBC, iv)",
        "def f(key):\n    iv = get_random_bytes(16)\n    return AES.new(key, AES.MODE_CBC, iv)",
    ),
    "constant-iv-mode": ("m = modes.CBC(b'0123456789abcdef')", "m = modes.CBC(os.urandom(16))"),
    "constant-salt": (
        "def f(p):\n    return hashlib.pbkdf2_hmac('sha256', p, b'salt', 9)",
        "def f(p):\n    salt = os.urandom(16)\n    return hashlib.pbkdf2_hmac('sha256', p, salt, 9)",
    ),
    "guessable-salt": (
        "def f(p, user):\n    return hashlib.pbkdf2_hmac('sha256', p, user.encode(), 9)",
        "def f(p, user):\n    return hashlib.pbkdf2_hmac('sha256', p, os.urandom(16), 9)",
    ),
    "guessable-secret": (
        "def reset_token():\n    return random.randint(0, 10**9)",
        "def reset_token():\n    return secrets.token_urlsafe()",
    ),
    "unverified-token": (
        "jwt.decode(t, options={'verify_signature': False})",
        "jwt.decode(t, KEY, algorithms=['HS256'])",
    ),
    "unverified-connection": ("requests.get(URL, verify=False)", "requests.get(URL, verify=True)"),
    "ldap-without-tls": ("s = Server(HOST, use_ssl=True)", "s = Server(HOST, use_ssl=True, tls=CONTEXT)"),
    "open-to-all": ("os.chmod(path, 0o777)", "os.chmod(path, 0o600)"),
    "umask": ("os.umask(0)", "os.umask(0o077)"),
    "temporary-name": ("name = tempfile.mktemp()", "handle, name = tempfile.mkstemp()"),
    "debugger": ("app.run(debug=True)", "app.run(debug=False)"),
    "traceback": (
        "def f():\n    return make_response(traceback.format_exc())",
        "def f():\n    return make_response('something went wrong')",
    ),
    "sql-number": (
        "def f(cur, n: int):\n    cur.execute('SELECT id FROM shop WHERE city = %d' % n)",
        "def f(cur, n: int):\n    cur.execute('SELECT id FROM shop WHERE city = %s', (n,))",
    ),
    "shell-named": (
        "def f(x):\n    subprocess.run(['bash', '-c', 'ls ' + x])",
        "def f(x):\n    subprocess.run(['bash', '-c', 'ls ' + shlex.quote(x)])",
    ),
    "program": (
        "def f(name):\n    os.execvp(name, [name])",
        "def f(name):\n    if name not in PROGRAMS:\n        raise ValueError\n    os.execvp(name, [name])",
    ),
    "import": (
        "def f(name):\n    return importlib.import_module(name)",
        "def f(name):\n    if name in PLUGINS:\n        return importlib.import_module(name)",
    ),
    "markup": ("def f(x):\n    return Markup(x)", "def f(x):\n    return Markup(escape(x))"),
    "header": (
        "def f(self, name):\n    self.send_header('X-Name', name)",
        "def f(self, name):\n    self.send_header('X-Name', name.replace('\\n', ''))",
    ),
    "header-item": (
        "def f(response, lang):\n    response.headers['Content-Language'] = lang",
        "def f(response, lang):\n    if '\\n' in lang or '\\r' in lang:\n        raise ValueError\n"
        "    response.headers['Content-Language'] = lang",
    ),
    "header-text": (
        "def f(x):\n    return f'Set-Cookie: theme={x}\\r\\n'",
        "def f(x):\n    return f'Set-Cookie: theme={quote(x)}\\r\\n'",
    ),
    "format-string": (
        "def f(user):\n    return request.args['t'].format(user=user)",
        "def f(user):\n    return TEMPLATE.format(name=request.args['t'])",
    ),
    "nosql-operator": (
        "def f(db):\n    return db.users.find_one({'name': request.json['name']})",
        "def f(db):\n    return db.users.find_one({'name': str(request.json['name'])})",
    ),
    "ambiguous-regex": ("re.match(r'^(\\w+\\s?)*$', x)", "re.match(r'^\\w+(\\s\\w+)*$', x)"),
    "extract-member": (
        "def f(p, d):\n    tar = tarfile.open(p)\n    for m in tar:\n        tar.extract(m, d)",
        "def f(p, d):\n    tar = tarfile.open(p)\n    for m in tar:\n        tar.extract(m, d, filter='data')",
    ),
    "host-prefix": (
        "def f(url):\n    return url.startswith('https://shop.example.org')",
        "def f(url):\n    return url.startswith('https://shop.example.org/')",
    ),
    "host-suffix": (
        "def f(url):\n    return urlparse(url).hostname.endswith('example.org')",
        "def f(url):\n    return urlparse(url).hostname.endswith('.example.org')",
    ),
    "host-pattern": (
        "ok = re.match(r'^https://shop.example.org/', url)",
        "ok = re.match(r'^https://shop\\.example\\.org/', url)",
    ),
    "decompress": (
        "def f(data):\n    return zlib.decompress(data)",
        "def f(data):\n    return zlib.decompressobj().decompress(data, 10**6)",
    ),
    "load-array": ("a = np.load(p, allow_pickle=True)", "a = np.load(p)"),
    "attribute": (
        "def f(o):\n    return getattr(o, request.args['do'])()",
        "def f(o):\n    name = request.args['do']\n    if name in ACTIONS:\n        return getattr(o, name)()",
    ),
    "unverified-context": ("context.verify_mode = ssl.CERT_NONE", "context.verify_mode = ssl.CERT_REQUIRED"),
    "old-tls": ("c = ssl.SSLContext(ssl.PROTOCOL_TLSv1)", "c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)"),
    "short-key": ("bits = 1024\nkey = RSA.generate(bits)", "bits = 3072\nkey = RSA.generate(bits)"),
    "short-curve": ("k = ec.generate_private_key(ec.SECP192R1())", "k = ec.generate_private_key(ec.SECP256R1())"),
    "few-rounds": (
        "def f(p):\n    return pbkdf2_hmac('sha256', p, os.urandom(16), 1000)",
        "def f(p):\n    return pbkdf2_hmac('sha256', p, os.urandom(16), 600000)",
    ),
    "fast-password-update": ("h.update(password.encode())", "h.update(content.encode())"),
    "guessable-iv": (
        "def encrypt(key, text):\n    return AES.new(key, AES.MODE_CBC, key[:16]).encrypt(text)",
        "def encrypt(key, text):\n    return AES.new(key, AES.MODE_CBC, os.urandom(16)).encrypt(text)",
    ),
    "fixed-key": ("c = AES.new(b'sixteen byte key', AES.MODE_GCM)", "c = AES.new(os.environb[b'K'], AES.MODE_GCM)"),
    "fixed-token-key": ("t = jwt.encode(claims, 'hunter2')", "t = jwt.encode(claims, os.environ['TOKEN_KEY'])"),
    "fixed-password-compared": (
        "def f(password):\n    return password == 'hunter2'",
        "def f(password):\n    return verify(password, STORED)",
    ),
    "timing": (
        "def f(data, signature):\n    return hmac.new(KEY, data).hexdigest() == signature",
        "def f(data, signature):\n    return hmac.compare_digest(hmac.new(KEY, data).hexdigest(), signature)",
    ),
    "predictable-token": (
        "def make_token(user):\n    return hash_of(user, time.time())",
        "def make_token(user):\n    return secrets.token_hex()",
    ),
    "unverified-claims": ("c = jwt.get_unverified_claims(t)", "c = jwt.decode(t, KEY, algorithms=['HS256'])"),
    "unverified-options": (
        "options = {'verify_signature': False}\nc = jwt.decode(t, KEY, options=options)",
        "options = {'verify_signature': True}\nc = jwt.decode(t, KEY, options=options)",
    ),
    "unsigned-token": (
        "c = jwt.decode(t, KEY, algorithms=['HS256', 'none'])",
        "c = jwt.decode(t, KEY, algorithms=['HS256'])",
    ),
    "readable-secret": ("os.chmod('id_rsa', 0o644)", "os.chmod('id_rsa', 0o600)"),
    "cookie": (
        "r.set_cookie('session', value)",
        "r.set_cookie('session', value, secure=True, httponly=True)",
    ),
    "cookie-settings": ("SESSION_COOKIE_SECURE = False", "SESSION_COOKIE_SECURE = True"),
    "debug-setting": ("app.debug = True", "app.debug = False"),
    "no-csrf": ("@csrf_exempt\ndef f(request):\n    pass", "@login_required\ndef f(request):\n    pass"),
    "asserted-right": (
        "def f(user):\n    assert user.is_admin",
        "def f(user):\n    if not user.is_admin:\n        raise PermissionError",
    ),
    "error-text": (
        "def f():\n    return jsonify(error=str(error))",
        "def f():\n    return jsonify(error='failed')",
    ),
    "path-prefix": (
        "def f(path, base):\n    return path.startswith(base)",
        "def f(path, base):\n    path = os.path.realpath(path)\n    return path.startswith(base)",
    ),
    "yaml-unsafe": ("y = YAML(typ='unsafe')", "y = YAML(typ='safe')"),
    "weak-hmac": ("h = hmac.new(key, data, 'md5')", "h = hmac.new(key, data, 'sha256')"),
    "nosql-script": (
        "def f(db, name):\n    return db.find({'name': {'$regex': name}})",
        "def f(db, name):\n    return db.find({'name': {'$regex': re.escape(name)}})",
    ),
    "html-attribute": (
        "def f(x):\n    return f'<input value=\"{escape(x, quote=False)}\">'",
        "def f(x):\n    return f'<input value=\"{escape(x)}\">'",
    ),
    "html-link": (
        "def f(url):\n    return f'<a href=\"{escape(url)}\">go</a>'",
        "def f(url):\n    if urlparse(url).scheme not in ('http', 'https'):\n        raise ValueError\n"
        "    return f'<a href=\"{escape(url)}\">go</a>'",
    ),
    "log-secret": ("log.info('login by %s with %s', name, password)", "log.info('login by %s', name)"),
    "redirect-header": (
        "def f(to):\n    return 302, {'Location': to}",
        "def f(to):\n    if to not in PAGES:\n        return 404, {}\n    return 302, {'Location': to}",
    ),
    "redirect-joined": (
        "def redirect_to(to):\n    return urljoin(SITE, to)",
        "def redirect_to(to):\n    to = urljoin(SITE, to)\n    return to if urlparse(to).netloc == HOST else SITE",
    ),
    "decompress-read": (
        "def f(data):\n    return gzip.open(io.BytesIO(data)).read()",
        "def f(data):\n    return gzip.open(io.BytesIO(data)).read(LIMIT)",
    ),
    "unread-signature": (
        "def f(message):\n    text, signature = message.split('.')\n    return text",
        "def f(message):\n    text, signature = message.split('.')\n    check(text, signature)\n    return text",
    ),
    "fixed-secret": ("password = 'hunter2'", "password = os.environ['PASSWORD']"),
    "fixed-secret-compared": (
        "def f(given):\n    return hmac.compare_digest(given, 'hunter2')",
        "def f(given):\n    return hmac.compare_digest(given, os.environ['PASSWORD'])",
    ),
    "temporary-fixed": (
        "f = open(os.path.join(tempfile.gettempdir(), 'a.txt'), 'w')",
        "f = tempfile.NamedTemporaryFile('w', suffix='.txt')",
    ),
    "unread-user": (
        "def remove(entries, caller, entry):\n    del entries[entry]",
        "def remove(entries, caller, entry):\n    if entries[entry].owner != caller:\n        raise PermissionError\n"
        "    del entries[entry]",
    ),
    "path-written": (
        "def f(name):\n    with open(os.path.join(ROOT, name), 'w') as file:\n        file.write('x')",
        "def f(folder, name):\n    with open(os.path.join(folder, name), 'w') as file:\n        file.write('x')",
    ),
    "path-made": (
        "def f(name):\n    os.makedirs(os.path.join(ROOT, name))",
        "def f(name):\n    os.makedirs(os.path.join(ROOT, os.path.basename(name)))",
    ),
    "path-uploaded": (
        "def save_upload(folder, name, data):\n    Path(folder, name).write_bytes(data)",
        "def save_upload(folder, name, data):\n    Path(folder, secure_filename(name)).write_bytes(data)",
    ),
    "path-member": (
        "def f(z, folder):\n    for name in z.namelist():\n        "
        "open(os.path.join(folder, name), 'wb').write(z.read(name))",
        "def f(z, folder):\n    for name in z.namelist():\n        if '..' in name:\n            continue\n"
        "        open(os.path.join(folder, name), 'wb').write(z.read(name))",
    ),
    "unpack": ("shutil.unpack_archive(path, folder)", "shutil.unpack_archive(path, folder, filter='data')"),
    "extract-listed": (
        "def f(t, folder):\n    for m in t.getmembers():\n        t.extract(m, folder)",
        "def f(t, folder):\n    for m in t.getmembers():\n        if '..' in m.name or os.path.isabs(m.name):\n"
        "            continue\n        t.extract(m, folder)",
    ),
    "host-among": (
        "def f(url, domains):\n    return any(one in url for one in domains)",
        "def f(url, domains):\n    return any(one == urlparse(url).hostname for one in domains)",
    ),
    "host-prefix-value": (
        "def f(url, host):\n    return url.startswith('https://' + host)",
        "def f(url, host):\n    return url.startswith('https://' + host + '/')",
    ),
    "host-begins": (
        "def f(url, domain):\n    return urlparse(url).netloc.startswith(domain)",
        "def f(url, domain):\n    return urlparse(url).netloc == domain",
    ),
    "host-suffix-value": (
        "def f(url, domains):\n    return any(urlparse(url).netloc.endswith(one) for one in domains)",
        "def f(url, domains):\n    return any(urlparse(url).netloc.endswith('.' + one) for one in domains)",
    ),
    "host-found": (
        "def f(url, domain):\n    return url.find(domain) != -1",
        "def f(url, domain):\n    return urlparse(url).hostname == domain",
    ),
    "host-searched": (
        "ok = re.search(r'example\\.org', url)",
        "ok = re.fullmatch(r'https://example\\.org/.*', url)",
    ),
    "host-pattern-value": (
        "def f(url, host):\n    return re.match(rf'https?://{re.escape(host)}', url)",
        "def f(url, host):\n    return re.match(rf'https?://{re.escape(host)}/', url)",
    ),
    "wide-range": ("ok = re.fullmatch('[A-z]+', x)", "ok = re.fullmatch('[A-Za-z]+', x)"),
    "log-parameter": (
        "def log_visit(page):\n    logger.info('seen: ' + page)",
        "def log_visit(page):\n    logger.info('seen: %r', page)",
    ),
    "log-line": (
        "def log_visit(file, page):\n    file.write(f'seen: {page}\\n')",
        "def log_visit(file, page):\n    page = ' '.join(page.splitlines())\n    file.write(f'seen: {page}\\n')",
    ),
    "log-user": (
        "def sign_in(username):\n    logger.warning('no such user: %s', username)",
        "def sign_in(username):\n    if any(c in username for c in '\\r\\n'):\n        raise ValueError\n"
        "    logger.warning('no such user: %s', username)",
    ),
    "nosql-parsed": (
        "def f(users, text):\n    return users.find(json.loads(text))",
        "def f(users, text):\n    return users.find({'name': str(json.loads(text))})",
    ),
    "header-list": (
        "def f(start_response, name):\n    start_response('200 OK', [('X-Name', name)])",
        "def f(start_response, name):\n    start_response('200 OK', [('X-Name', quote(name))])",
    ),
    "header-table": (
        "def f(lang):\n    return 200, {'Set-Cookie': f'lang={lang}'}",
        "def f(lang):\n    if re.search(r'[\\r\\n]', lang):\n        raise ValueError\n"
        "    return 200, {'Set-Cookie': f'lang={lang}'}",
    ),
    "template-default": (
        "t = jinja2.Template('<p>{{ name }}</p>')",
        "t = jinja2.Template('<p>{{ name | e }}</p>')",
    ),
    "secret-written": (
        "def f(path, name, key):\n    with open(path, 'w') as file:\n        file.write(f'name={name} password={key}')",
        "def f(path, name, key):\n    with open(path, 'w') as file:\n        os.chmod(path, 0o600)\n"
        "        file.write(f'name={name} password={key}')",
    ),
    "secret-kept": (
        "def f(path, secrets):\n    with open(path, 'w') as file:\n        for name, x in secrets.items():\n"
        "            file.write(x)",
        "def f(path, secrets):\n    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)\n"
        "    with os.fdopen(fd, 'w') as file:\n        for name, x in secrets.items():\n            file.write(x)",
    ),
    "secret-file": (
        "def f(folder, data):\n    path = os.path.join(folder, 'app.key')\n    Path(path).write_bytes(data)",
        "def f(folder, data):\n    path = os.path.join(folder, 'app.key')\n    Path(path).touch(0o600)\n"
        "    Path(path).write_bytes(data)",
    ),
    "secret-saved": (
        "def save_credentials(path, data):\n    with open(path, 'w') as file:\n        json.dump(data, file)",
        "def save_credentials(path, data):\n    os.umask(0o077)\n    with open(path, 'w') as file:\n"
        "        json.dump(data, file)",
    ),
    "short-secret": ("key = os.urandom(8)", "key = os.urandom(32)"),
    "short-key-default": (
        "def make_key(bits=1024):\n    return RSA.generate(bits)",
        "def make_key(bits=3072):\n    return RSA.generate(bits)",
    ),
}


def names(code, tools=FAST):
    (found,) = scan([Source("a.py", code)], tools)
    assert found.verdict is not Verdict.UNPARSEABLE
    return {finding.rule for finding in found.findings}


def test_every_rule_has_a_weakness_and_a_repair():
    assert set(TWINS) == {rule.id for rule in rules()}


@pytest.mark.parametrize("rule", TWINS)
def test_a_rule_flags_the_weakness_and_not_its_repair(rule):
    weakness, repair = TWINS[rule]
    assert rule in names(weakness)
    assert rule not in names(repair)


@pytest.mark.parametrize(
    "build",
    [
        "q = 'SELECT a FROM t WHERE b = ' + x",
        "q = f'SELECT a FROM t WHERE b = {x}'",
        "q = 'SELECT a FROM t WHERE b = {}'.format(x)",
        "q = 'SELECT a FROM t WHERE b = {v}'.format(v=x)",
        "q = 'SELECT a FROM t WHERE b = %(v)s' % {'v': x}",
        "q = ' '.join(['SELECT a FROM t', 'WHERE b =', x])",
        "q = 'SELECT a FROM t'\n    if x:\n        q = q + ' WHERE b = ' + x",
    ],
)
def test_the_way_a_text_is_built_does_not_matter(build):
    assert "sql-value" in names(f"def f(x):\n    {build}")


GUARDED = {
    "name": "def f(name):\n{}\n    return open(os.path.join(ROOT, name))",
    "path": "def f(name):\n    path = os.path.realpath(os.path.join(ROOT, name))\n{}\n    return open(path)",
    "raw": "def f(name):\n    path = os.path.join(ROOT, name)\n{}\n    return open(path)",
    "url": "def f(url):\n{}\n    return requests.get(url)",
    "to": "def f():\n    url = request.args['to']\n    host = urlparse(url).hostname\n{}\n    return redirect(url)",
    "host": "def f(host):\n{}\n    os.system('ping -c 1 ' + host)",
}
"""Code with room for a test in front of its use of a value."""


def flagged(case, test):
    return bool(names(GUARDED[case].format(textwrap.indent(test, "    "))))


@pytest.mark.parametrize("case", GUARDED)
def test_code_without_a_test_is_flagged(case):
    assert flagged(case, "pass")


@pytest.mark.parametrize(
    ("case", "test"),
    [
        ("name", "if name not in NAMES:\n    raise ValueError"),
        ("name", "if not name or name not in NAMES:\n    return None"),
        ("name", "assert name in NAMES"),
        ("name", "if name not in NAMES:\n    name = 'default'"),
        ("name", "if not re.fullmatch(r'[a-z]+', name):\n    raise ValueError"),
        ("name", "if not re.match(r'^[a-z]+$', name):\n    raise ValueError"),
        ("name", "if re.search(r'[^a-z]', name):\n    raise ValueError"),
        ("name", "found = NAME.match(name)\nif found is None:\n    raise ValueError"),
        ("name", "if not name.isalnum():\n    abort(400)"),
        ("name", "if not all(c in LETTERS for c in name):\n    raise ValueError"),
        ("name", "if '..' in name or '/' in name:\n    raise ValueError"),
        ("name", "if any(one in name for one in ('..', '/')):\n    raise ValueError"),
        ("name", "if os.path.basename(name) != name:\n    raise ValueError"),
        ("name", "match name:\n    case 'a' | 'b':\n        pass\n    case _:\n        raise ValueError"),
        ("path", "if not path.startswith(ROOT + os.sep):\n    raise ValueError"),
        ("path", "if os.path.commonpath([ROOT, path]) != ROOT:\n    raise ValueError"),
        ("path", "if os.path.commonpath([folder, path]) != folder:\n    raise ValueError"),
        ("path", "try:\n    Path(path).relative_to(ROOT)\nexcept ValueError:\n    return None"),
        ("path", "ok = Path(path).is_relative_to(ROOT)\nif not ok:\n    return None"),
        ("url", "if urlparse(url).hostname not in HOSTS:\n    raise ValueError"),
        ("url", "if not url.startswith('https://shop.example.org/'):\n    raise ValueError"),
        ("to", "if host != 'example.org' and not host.endswith('.example.org'):\n    abort(400)"),
        ("url", "if ipaddress.ip_address(gethostbyname(urlparse(url).hostname)).is_private:\n    raise ValueError"),
        ("url", "if urlparse(url).netloc.split(':')[0] not in HOSTS:\n    raise ValueError"),
        ("to", "if not any(host == d or host.endswith('.' + d) for d in DOMAINS):\n    abort(400)"),
        ("to", "if urlparse(url).netloc and host != 'example.org':\n    url = '/'"),
        ("host", "try:\n    ipaddress.ip_address(host)\nexcept ValueError:\n    return"),
        ("host", "check_host(host)"),
    ],
)
def test_a_test_on_the_way_that_limits_the_value_clears_it(case, test):
    assert not flagged(case, test)


@pytest.mark.parametrize(
    ("case", "test"),
    [
        ("name", "if name not in NAMES:\n    log(name)"),
        ("name", "if name in NAMES:\n    log(name)"),
        ("name", "if name in FORBIDDEN:\n    raise ValueError"),
        ("name", "if not name.endswith('.txt'):\n    raise ValueError"),
        ("name", "if os.path.splitext(name)[1] not in SUFFIXES:\n    raise ValueError"),
        ("name", "if not re.match(r'[a-z]+', name):\n    raise ValueError"),
        ("name", "if not re.fullmatch(r'.+', name):\n    raise ValueError"),
        ("name", "if not re.fullmatch(r'[a-z./]+', name):\n    raise ValueError"),
        ("name", "if name not in NAMES:\n    raise ValueError\nname = input()"),
        ("name", "if not any(c in LETTERS for c in name):\n    raise ValueError"),
        ("name", "if len(name) > 100 or name == '':\n    raise ValueError"),
        ("raw", "if not path.startswith(ROOT):\n    raise ValueError"),
        ("raw", "if not Path(path).is_relative_to(ROOT):\n    raise ValueError"),
        ("raw", "if os.path.commonpath([ROOT, path]) != ROOT:\n    raise ValueError"),
        ("raw", "if not os.path.exists(path):\n    raise FileNotFoundError"),
        ("path", "try:\n    Path(path).relative_to(ROOT)\nexcept ValueError:\n    log(path)"),
        ("url", "if urlparse(url).scheme not in ('http', 'https'):\n    raise ValueError"),
        ("url", "if not url.startswith('https://'):\n    raise ValueError"),
        ("url", "if 'localhost' in url:\n    raise ValueError"),
        ("host", "if ';' in host:\n    raise ValueError"),
    ],
)
def test_a_test_that_limits_little_or_does_not_stop_shows_nothing(case, test):
    assert flagged(case, test)


def test_a_test_behind_the_use_comes_too_late():
    code = (
        "def f(name):\n    text = open(ROOT + '/' + name).read()\n    if name not in NAMES:\n        raise ValueError"
    )
    assert "path" in names(code)


def test_a_value_is_cleared_only_where_its_test_holds():
    code = "def f(n):\n    if n in NAMES:\n        {}\n    else:\n        {}"
    use = "open(ROOT + '/' + n)"
    assert names(code.format(use, "pass")) == set()
    assert names(code.format("pass", use)) == {"path"}
    assert names("def f(n):\n    return n in NAMES and open(ROOT + '/' + n)") == set()
    assert names("def f(n):\n    return open(ROOT + '/' + n) if n in NAMES else None") == set()
    assert names("def f(ns):\n    return [open(ROOT + '/' + n) for n in ns if n in NAMES]") == set()


HELPERS = {
    "brings a harmless value": ("def clean(n):\n    return os.path.basename(n)", "name = clean(name)"),
    "brings a tested value": (
        "def clean(n):\n    if n not in NAMES:\n        raise ValueError\n    return os.path.join(ROOT, n)",
        "name = clean(name)",
    ),
    "raises": ("def look(n):\n    if n not in NAMES:\n        raise ValueError", "look(name)"),
    "answers": (
        "def good(n):\n    if not n:\n        return False\n    return n in NAMES",
        "if not good(name):\n        return None",
    ),
    "calls another": (
        "def good(n):\n    return n in NAMES\n\ndef look(n):\n    if not good(n):\n        raise ValueError",
        "look(name)",
    ),
}
USELESS_HELPERS = {
    "brings the same": ("def clean(n):\n    return n.strip()", "name = clean(name)"),
    "forgets to raise": ("def check(n):\n    if n not in NAMES:\n        print(n)", "check(name)"),
    "looks at the suffix": (
        "def allowed(n):\n    return n.rsplit('.', 1)[1].lower() in SUFFIXES",
        "if not allowed(name):\n        return None",
    ),
    "answers yes to all": ("def valid(n):\n    return True", "if not valid(name):\n        return None"),
}
CALLER = "{}\n\ndef f(name):\n    {}\n    return open(os.path.join(ROOT, name))"


@pytest.mark.parametrize("helper", HELPERS)
def test_functions_of_the_module_are_followed(helper):
    assert names(CALLER.format(*HELPERS[helper])) == set()


@pytest.mark.parametrize("helper", USELESS_HELPERS)
def test_a_good_name_does_not_make_a_good_check(helper):
    assert names(CALLER.format(*USELESS_HELPERS[helper])) == {"path"}


@pytest.mark.parametrize(
    "pattern",
    [
        "(a|a)*",
        r"(\w|\d)+",
        r"(([a-z])+.)+",
        r"([-.\w]*[0-9])*",
        "(a+)+",
        "([a-z]+)*$",
        r"(\w+\s?)*",
        "((x|y+)?(z+))*",
        r"(\d+\w+){2,}",
        "(a*)*",
    ],
)
def test_repetitions_of_repetitions_are_seen(pattern):
    assert ambiguous(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        r"(\w+\.)+\w+",
        "[(a+)+]",
        r"\(a+\)+",
        "(a+)?",
        "(ab)+",
        "a+b+",
        r"(?:\d{3}-)*",
        "(",
        r"(?:a|b)+",
        r"(,\w*)*",
        r"([^\\]|\\.)*",
    ],
)
def test_other_repetitions_are_not(pattern):
    assert not ambiguous(pattern)


def test_numbers_are_a_lesser_weakness_in_sql_and_placeholders_none():
    assert names("def f(x, n: int):\n    q = 'SELECT a FROM t WHERE b = %d LIMIT %s' % (x, n)") == {"sql-number"}
    assert names("def f(ids):\n    q = f\"SELECT a FROM t WHERE b IN ({','.join('?' for _ in ids)})\"") == set()


def test_ruff_and_bandit_name_the_same_weakness():
    (found,) = scan(
        [Source("a.py", "import pickle, sys\npickle.load(sys.stdin)\nq = 'SELECT a FROM t WHERE b = ' + x\n")]
    )
    agreed = {finding.rule: finding.cwe for finding in found.findings}
    assert agreed["S301"] == agreed["B301"] == "CWE-502"
    assert agreed["S608"] == agreed["B608"] == "CWE-89"


def test_comments_do_not_silence_a_tool():
    code = "# ruff: noqa\n# flake8: noqa\nimport pickle\n\npickle.loads(x)  # noqa  # nosec\n"
    (found,) = scan([Source("a.py", code)], PYTHON_TOOLS)
    assert {"ruff", "bandit"} <= {finding.tool for finding in found.findings}


def test_a_declared_encoding_does_not_hide_code():
    (found,) = scan([Source("a.py", "# coding: no-such\nimport pickle\npickle.loads(x)\n")], PYTHON_TOOLS)
    assert {"ruff", "bandit"} <= {finding.tool for finding in found.findings}
    assert found.unread_by == ()


def finding(tool, rule="r", cwe="CWE-89", severity="medium"):
    return Finding(1, tool, rule, cwe, severity, "")


@pytest.mark.parametrize(
    ("findings", "lenient", "strict"),
    [
        ((), "clean", "clean"),
        ((finding("ruff"),), "vulnerable", "clean"),
        ((finding("ruff"), finding("bandit")), "vulnerable", "clean"),
        ((finding("ruff"), finding("semgrep")), "vulnerable", "vulnerable"),
        ((finding("bandit", cwe="CWE-78"), finding("flow", cwe="CWE-89")), "vulnerable", "clean"),
        ((finding("bandit", cwe="CWE-77"), finding("flow", cwe="CWE-78")), "vulnerable", "vulnerable"),
        ((finding("flow", severity="high"),), "vulnerable", "vulnerable"),
        ((finding("bandit", severity="low"), finding("ruff", severity="low")), "clean", "clean"),
        ((finding("bandit", severity="low"), finding("flow", severity="medium")), "vulnerable", "vulnerable"),
    ],
)
def test_strict_needs_a_sure_rule_or_two_independent_tools(findings, lenient, strict):
    found = Scan("a.py", findings)
    assert (found.verdict, found.strict_verdict) == (lenient, strict)


def test_what_cannot_be_parsed_is_neither_clean_nor_vulnerable():
    found = scan([Source("a.py", "def f(:"), Source("b.py", "x = 1")], FAST)
    assert [one.verdict for one in found] == ["unparseable", "clean"]
    assert found[0].strict_verdict == "unparseable"
    assert found[0].problem.startswith("SyntaxError")


def test_rows_of_files_say_where_and_what(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.py").write_text("\n\n    def f(x):\n        eval(x)\n")
    (tmp_path / "b.py").write_bytes(b"\xff\xfe")
    (tmp_path / "c.py").write_text("def (")
    (tmp_path / "note.txt").write_text("eval(x)")
    (tmp_path / "mine.jsonl").write_text('{"id": 1, "cot": null}\n{"id": 2, "cot": "eval(x)"}\n')
    (tmp_path / "empty.py").touch()
    named = [tmp_path / "gone.py", tmp_path / "mine.jsonl"]
    rows = {row["path"].rpartition("/")[2]: row for row in scan_paths([tmp_path, *named])}
    assert {name: row["verdict"] for name, row in rows.items()} == {
        "a.py": "vulnerable", "b.py": "unparseable", "c.py": "unparseable", "gone.py": "unparseable",
        "mine.jsonl": "unparseable", "empty.py": "clean",
    }  # fmt: skip
    assert {(one["tool"], one["line"]) for one in rows["a.py"]["findings"]} >= {("flow", 4), ("ruff", 4), ("bandit", 4)}
    assert rows["b.py"]["problem"] == "not UTF-8: byte 0"
    assert "No such file" in rows["gone.py"]["problem"]
    json.dumps(list(rows.values()))


@pytest.mark.parametrize(
    ("mode", "open_to_all"),
    [
        ("stat.S_IRUSR | stat.S_IWUSR", False),
        ("stat.S_IRUSR | stat.S_IWUSR | stat.S_IRGRP | stat.S_IROTH", False),  # 0o644, as anything that is published
        ("S_IRWXU | S_IRWXG | S_IRWXO", True),
        ("0o600 | stat.S_IWOTH | stat.S_IRGRP | stat.S_IWGRP | stat.S_IROTH", True),
        ("os.stat(path).st_mode | stat.S_IWOTH", True),
        ("os.stat(path).st_mode & ~stat.S_IRWXO", False),
        ("os.stat(path).st_mode & ~(stat.S_IWGRP | stat.S_IWOTH)", False),
        ("0o644", False),
        ("0o646", True),
    ],
)
def test_permissions_are_judged_by_what_they_grant(mode, open_to_all):
    assert ("open-to-all" in names(f"def f(path):\n    os.chmod(path, {mode})")) is open_to_all


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        ("Template('<p>$x</p>').substitute(x=x)", True),
        ("Template('<p>${x}</p>').safe_substitute(x=html.escape(x))", False),
        ("'<p>{{x}}</p>'.replace('{{x}}', x)", True),
        ("'<p>{{x}}</p>'.replace('{{x}}', html.escape(x))", False),
    ],
)
def test_templates_of_the_standard_library_are_filled_in(build, expected):
    assert ("html" in names(f"def f(x):\n    return {build}")) is expected


WRITTEN = """def f(folder, token):
    path = folder + '/it'
    {}
    with open(path, 'w') as file:
        file.write(token)
"""


@pytest.mark.parametrize(
    ("before", "left_open"),
    [
        ("os.chmod(path, 0o644)", True),
        ("os.chmod(folder, 0o600)", True),
        ("os.umask(0o022)", True),
        ("mode = 0o640\n    os.chmod(path, mode)", True),
        ("os.chmod(path, stat.S_IRUSR | stat.S_IWUSR)", False),
        ("os.chmod(path, mode)", False),
        ("Path(path).touch(mode=0o600)", False),
        ("os.umask(0o177)", False),
        ("restrict_to_owner(path)", False),
    ],
)
def test_a_secret_is_safe_in_a_file_that_only_its_owner_may_read(before, left_open):
    assert ("secret-written" in names(WRITTEN.format(before))) is left_open


@pytest.mark.parametrize(
    "opened",
    ["open(path, 'w')", "open(file=path, mode='w')", "Path(path).open('w')", "open(os.open(path, os.O_CREAT), 'w')"],
)
def test_a_file_is_known_however_it_is_opened(opened):
    assert "secret-written" in names(f"def f(path, token):\n    {opened}.write(token)")
    assert "secret-written" in names(f"def f(path, token):\n    it = {opened}\n    print(token, file=it)")


@pytest.mark.parametrize("opened", ["open", "os.fdopen"])
def test_a_handle_opened_in_place_is_as_safe_as_its_permissions(opened):
    code = (
        f"def f(path, token):\n    with {opened}(os.open(path, os.O_CREAT, {{}}), 'w') as it:\n        it.write(token)"
    )
    assert "secret-written" in names(code.format("0o644"))
    assert names(code.format("0o600")) == set()


def test_calls_without_arguments_are_read_over():
    calls = ("open()", "open(mode='w').write()", "os.open()", "os.fdopen()", "os.umask()", "os.chmod()", "os.write()")
    assert names("def f(token):\n    " + "\n    ".join(calls)) == set()


def test_a_variable_holds_the_file_that_it_was_given_last():
    write = "    with {} as it:\n        it.write({})\n"
    secret, public = write.format("open(a, 'w')", "secret"), write.format("open(b, 'w')", "hello")
    closed = write.format("os.fdopen(os.open(a, os.O_CREAT, 0o600), 'w')", "secret")
    for body in (secret + public, public + secret):
        assert names("def f(a, b, secret):\n" + body + "    os.chmod(a, 0o600)") == set()
        assert "secret-written" in names("def f(a, b, secret):\n" + body + "    os.chmod(b, 0o600)")
    assert names("def f(a, b, secret):\n" + public + closed) == set()


def test_what_is_no_secret_may_be_read_by_all():
    assert (
        names("def f(path, tokens):\n    with open(path, 'w') as file:\n        file.write(str(len(tokens)))") == set()
    )
    both = (
        "def f(a, b, secret):\n    open(a, 'w').write('hello')\n    os.chmod({}, 0o600)\n    open(b, 'w').write(secret)"
    )
    assert names(both.format("b")) == set()
    assert "secret-written" in names(both.format("a"))


def test_who_names_the_folder_may_name_what_is_written_there_but_not_what_is_read():
    code = "def f(folder, name):\n    return open(os.path.join(folder, name){})"
    assert names(code.format(", 'w'")) == set()
    assert names(code.format("")) == {"path"}
    assert names("def f(name):\n    return open(os.path.join(ROOT, name), 'w')") == {"path-written"}


SEMGREP_TWINS = {
    "sql": (
        "def f(cur, city):\n    cur.execute('SELECT id FROM shop WHERE city = %s' % city)",
        "def f(cur, city):\n    cur.execute('SELECT id FROM shop WHERE city = %s', (city,))",
    ),
    "command": TWINS["shell-command"],
    "code": TWINS["code"],
    "path": (TWINS["path"][0], "def f(name):\n    return open(os.path.join(ROOT, os.path.basename(name)))"),
    "deserialise": TWINS["unpickle"],
    "template": TWINS["template"],
    "redirect": TWINS["redirect"],
    "autoescape": TWINS["autoescape-off"],
    "hash": TWINS["weak-hash"],
    "permissions": TWINS["open-to-all"],
    "xml": ("p = etree.XMLParser(resolve_entities=True)", TWINS["xml-entities"][1]),
}


@pytest.mark.skipif("semgrep" not in installed(), reason="semgrep is not installed")
def test_each_semgrep_rule_flags_the_weakness_and_not_its_repair():
    sources = [Source(name, code) for name, twins in SEMGREP_TWINS.items() for code in twins]
    found = [{one.rule for one in scanned.findings} for scanned in scan(sources, {"semgrep": semgrep})]
    assert {name for name, seen in zip(SEMGREP_TWINS, found[::2], strict=True) if name not in seen} == set()
    assert {name for name, seen in zip(SEMGREP_TWINS, found[1::2], strict=True) if name in seen} == set()
    fstring = "def f(cur, city):\n    cur.execute(f\"SELECT id FROM shop WHERE city = '{city}'\")"
    assert "sql" in names(fstring, {"semgrep": semgrep})


WORDS = [
    "x",
    "y",
    "'%s {} %d'",
    "f'{x}{y!r:>{x}}'",
    "f(x)",
    "x.join([y, x])",
    "'a'.format(x, *y, **x)",
    "[x for x in y]",
    "-x",
    "x if y else x",
]
EXPRESSIONS = st.recursive(
    st.sampled_from(WORDS),
    lambda inner: st.builds("({} {} {})".format, inner, st.sampled_from(["+", "%", "or", "/", "*", "in"]), inner),
    max_leaves=12,
)


@given(st.lists(st.builds("x = {}".format, EXPRESSIONS), max_size=8))
def test_the_flow_analysis_never_raises(statements):
    body = textwrap.indent("\n".join([*statements, "x += x", "return x"]), "    ")
    guarded = textwrap.indent("\n".join(f"if {one[4:]}:\n    {one}" for one in statements) or "pass", "    ")
    names(f"def g(x, *y):\n{body}\ndef f(x, *y):\n{guarded}\n    return g(x, y)\n")


def test_deep_and_doubling_code_ends():
    nested = "x"
    for _ in range(25):
        nested = f"''.join([{nested}, '%s' % ({nested[:1]},)])"
    doubling = "x = 'a' + y\n" + "x += x\n" * 200
    long = "x = " + " + ".join(["'a'"] * 5000)
    assert [one.verdict for one in scan([Source(str(n), c) for n, c in enumerate((nested, doubling, long))], FAST)]


def test_long_code_takes_time_by_its_length_and_not_by_its_square():
    def nodes_followed(n):
        helper = "def h(x):\n" + "    x = x + 'a'\n" * 20 + "    return x\n\n"
        code = (
            helper
            + "def f(a):\n"
            + "".join(f"    b{i} = h(a)\n    if b{i} not in A:\n        return\n" for i in range(n))
        )
        steps = 0

        def count(frame, event, argument):
            nonlocal steps
            steps += event == "call"

        sys.setprofile(count)
        try:
            find(ast.parse(code), rules())
        finally:
            sys.setprofile(None)
        return steps

    assert nodes_followed(400) < 2.5 * nodes_followed(200)


def test_a_function_that_never_comes_back_is_followed():
    assert names("def fail(x):\n    raise ValueError(x)\n\ndef f(x):\n    fail(x)\n    return eval(x)") == {"code"}


def test_functions_that_call_each_other_many_times_end():
    code = "".join(f"def h{i}(x):\n    return h{i + 1}(x) + h{i + 1}(x) + h{i}(x)\n" for i in range(300))
    assert names(code + "def h300(x):\n    return eval(x)") == {"code"}


def test_too_deep_for_the_flow_analysis_is_said():
    (found,) = scan([Source("a.py", "x = " + "f(" * 85 + "1" + ")" * 85)], FAST)
    assert found.unread_by in ((), ("flow",))


def test_related_weaknesses_are_of_one_family():
    assert family("CWE-77") == family("CWE-88") == "CWE-78"
    assert family("CWE-999") == "CWE-999"


def labelled(n, group, code, name="a"):
    return LabelledCode(f"{name}/{n}", name, "CWE-1", code, True, group)


def test_halves_keep_groups_and_near_duplicates_together():
    rng = Random(0)
    texts = [" ".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=60)) for _ in range(40)]
    cases = [labelled(n, f"g{n // 2}", text) for n, text in enumerate(texts)]
    copy = labelled(0, "other", texts[0] + " zz", name="b")
    half = halves([*cases, copy])
    assert all(half[f"a/{n}"] == half[f"a/{n + 1}"] for n in range(0, 40, 2))
    assert half["b/0"] == half["a/0"]
    assert sum(half[case.id] == "fit" for case in cases) <= 20


def test_a_missing_set_names_the_option(tmp_path):
    with pytest.raises(BadData, match=r"'sven' cannot be read.*Check --data"):
        load("sven", tmp_path)


def test_true_prevalence_gives_the_published_example():
    # The example of epiR's epi.prev, from its manual: 23 of 150 positive, sensitivity .96, specificity .89.
    found = true_prevalence(23, 150, Errors(96_000, 100_000, 11_000, 100_000))
    assert found.value == pytest.approx(0.051, abs=5e-4)
    assert found.low <= found.value <= found.high


@given(st.integers(0, 200), st.integers(60, 100), st.integers(0, 40))
def test_an_error_free_share_comes_back_and_intervals_are_in_range(vulnerable, hits, alarms):
    errors = Errors(hits, 100, alarms, 100)
    expected = vulnerable * errors.tpr + (200 - vulnerable) * errors.fpr
    found = true_prevalence(expected, 200, errors)
    assert found.value == pytest.approx(vulnerable / 200, abs=1e-9)
    assert 0 <= found.low <= found.high <= 1


def test_the_interval_holds_the_truth_as_often_as_it_says():
    rng = Random(1)

    def draw(rate, n):
        return sum(rng.random() < rate for _ in range(n))

    truth, tpr, fpr, held = 0.3, 0.7, 0.1, 0
    for _ in range(400):
        errors = Errors(draw(tpr, 80), 80, draw(fpr, 80), 80)
        found = true_prevalence(draw(truth * tpr + (1 - truth) * fpr, 100), 100, errors)
        held += found.low <= truth <= found.high
    assert held / 400 == pytest.approx(0.95, abs=0.03)


def test_a_useless_oracle_cannot_be_corrected():
    with pytest.raises(NotEnoughData, match=r"TPR - FPR is 0\.00.*executable"):
        true_prevalence(5, 10, Errors(5, 10, 5, 10))
    with pytest.raises(NotEnoughData, match="0 labelled vulnerable"):
        true_prevalence(5, 10, Errors(0, 0, 5, 10))
