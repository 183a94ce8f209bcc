"""A users API."""

from collections.abc import AsyncIterator

from microkit import BackgroundTasks, Depends, MicroAPI, NotFound, Router

app = MicroAPI(settings={"app": {"inspect_path": "/__endpoints__"}})
log: list[str] = []


class Users:
    """The users, in memory; one instance for the whole application."""

    def __init__(self) -> None:
        self.by_id = {1: "ada", 7: "grace"}


app.registry.register("users", Users, scope="app")


async def database(users: Users = Depends("users")) -> AsyncIterator[Users]:
    """A transaction: it ends before the reply is sent, and sees what went wrong."""
    try:
        yield users
    except Exception:
        log.append("rollback")
        raise
    log.append("commit")


def log_access(path: str) -> None:
    """Runs after the reply was sent."""
    log.append(f"accessed {path}")


async def announce(request, call_next):
    """Log before and after each request, whatever it answers."""
    log.append(f"before {request.method} {request.path}")
    response = await call_next(request)
    log.append(f"after {response.status_code}")
    return response


app.add_middleware(announce)


@app.get("/users/{id}")
async def get_user(request, background_tasks: BackgroundTasks):
    """Any user."""
    background_tasks.add(log_access, request.path)
    return {"user_id": request.path_params["id"]}


@app.get("/users/me")
async def get_me():
    """The static route comes first, wherever it is registered."""
    return {"user_id": "me"}


names = Router("/names")


@names.get("/{id:int}")
async def get_name(id: int, db: Users = Depends(database)):
    """A user's name, out of the database."""
    if id not in db.by_id:
        raise NotFound(f"There is no user {id}.")
    return {"name": db.by_id[id]}


@names.put("/{id:int}")
async def set_name(id: int, name: str, db: Users = Depends(database)):
    """Rename a user: `PUT /names/7?name=...`."""
    db.by_id[id] = name
    return 201, {"name": name}


app.include(names)


@app.on_startup
def opened() -> None:
    """Runs once, before the first request."""
    log.append("startup")


@app.on_shutdown
def closed() -> None:
    """Runs once, after the last request."""
    log.append("shutdown")
